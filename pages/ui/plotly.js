// Loads plotly once per page, from this server.
function loadPlotly(url) {
  window.effcorePlotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script")
    const onerror = () => { delete window.effcorePlotly; reject() } // the next panel tries again
    Object.assign(script, { src: url, onload: resolve, onerror })
    document.head.append(script)
  })
  return window.effcorePlotly
}

// Draws a small hidden chart in advance: a browser's first chart takes several times as long as
// later ones.
function rehearse() {
  const el = document.createElement("div")
  el.setAttribute("aria-hidden", "true")
  el.style.cssText = "position:fixed;left:-2000px;width:400px;height:260px;visibility:hidden"
  document.body.append(el)
  const xy = { x: [1, 2, 3], y: [1, 2, 4] }
  const lines = { type: "scatter", mode: "lines+markers", ...xy, name: "a" }
  const traces = [lines, { ...lines, fill: "tonexty", name: "b" }, { ...lines, yaxis: "y2" }]
  const layout = { yaxis: { type: "log" }, yaxis2: { overlaying: "y", side: "right" },
    hovermode: "x unified", legend: { orientation: "h" }, title: { text: "c" } }
  const done = () => { window.Plotly.purge(el); el.remove() }
  window.Plotly.newPlot(el, traces, layout)
    .then(() => window.Plotly.newPlot(el, [{ type: "bar", ...xy }], layout)).then(done, done)
}
