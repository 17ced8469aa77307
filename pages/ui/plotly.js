// Loads plotly once per page, from this server.
function loadPlotly(url) {
  window.effcorePlotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script")
    Object.assign(script, { src: url, onload: resolve, onerror: reject })
    document.head.append(script)
  })
  return window.effcorePlotly
}
