// The data map: one plotly figure that stays while what it shows changes, so that scrubbing
// keeps the zoom. Only the outline of what a person draws goes back to the server.

const MAPS = new WeakMap()
const LEAST = 3 // corners of a region
const WITHOUT_WEBGL = 4000 // points that a browser draws one by one and stays quick
// Outlines are drawn, not plotly's lasso: that looks for what is inside at every movement, which
// takes longer than a frame with so many points.
const TOOLS = [["drawclosedpath", "drawrect", "eraseshape", "zoom2d", "pan2d", "resetScale2d"]]

export default function ({ data, parentElement, setStateValue }) {
  let map = MAPS.get(parentElement)
  if (!map) MAPS.set(parentElement, (map = new DataMap(parentElement, setStateValue)))
  map.show(data)
  return () => {
    map.close()
    MAPS.delete(parentElement)
  }
}

function drawsOnGpu() {
  const canvas = document.createElement("canvas")
  return Boolean(canvas.getContext("webgl2") ?? canvas.getContext("webgl"))
}

class DataMap {
  constructor(parent, setStateValue) {
    this.root = parent.querySelector(".ex-map")
    this.plot = parent.querySelector(".ex-plot")
    this.tell = setStateValue
    this.webgl = drawsOnGpu()
  }

  show(bytes) {
    const theme = this.of("--st-text-color") + this.of("--st-background-color")
    const [header, arrays] = decode(bytes.slice().buffer)
    if (header.id === this.id && theme === this.theme) return
    Object.assign(this, { id: header.id, theme, header, arrays })
    this.plot.setAttribute("aria-label", header.label)
    const note = this.root.querySelector("[data-el=note]")
    note.hidden = this.webgl || arrays.x.values.length <= WITHOUT_WEBGL
    note.textContent = "This browser has no WebGL: an even choice of the points is drawn. " +
      "What is selected is all that lies in the region."
    loadPlotly(new URL(header.plotly, location.href)).then(() => this.draw(), () => {
      note.hidden = false
      note.textContent = "The chart's script could not be loaded: reload the page."
    })
  }

  of(name) { return getComputedStyle(this.root).getPropertyValue(name).trim() }

  draw() {
    if (this.closed) return
    const first = !this.plot.dataset.ready
    const drawn = window.Plotly.react(this.plot, [this.trace()], this.layout(), {
      responsive: true, displaylogo: false, displayModeBar: true, modeBarButtons: TOOLS,
    })
    this.plot.dataset.ready = true
    this.plot.dataset.shown = this.id // for whoever waits until it is drawn
    if (first) this.listen()
    return drawn
  }

  trace() {
    const { x, y, colour, example } = this.arrays
    const every = this.webgl ? 1 : Math.ceil(x.values.length / WITHOUT_WEBGL)
    const some = ({ values }) => (every === 1 ? values : values.filter((_, i) => i % every === 0))
    const few = x.values.length < 5000
    return {
      type: this.webgl ? "scattergl" : "scatter", mode: "markers",
      x: some(x), y: some(y), customdata: some(example),
      marker: { color: some(colour), colorscale: this.header.scale, cmin: 0,
        cmax: Math.max(1, this.header.most), size: few ? 6 : 4, opacity: few ? 0.8 : 0.55,
        colorbar: this.colourbar() },
      hovertemplate: "example %{customdata}<br>confidence %{y:.0%}, variability %{x:.2f}" +
        "<br>skipped %{marker.color} times<extra></extra>",
    }
  }

  colourbar() {
    const bar = { title: { text: "times skipped", side: "right" }, thickness: 10, outlinewidth: 0,
      nticks: 5, tickformat: "d", ...(this.header.most < 6 && { dtick: 1 }) }
    if (this.plot.clientWidth >= 480) return { ...bar, len: 0.6, y: 1, yanchor: "top" }
    return { ...bar, orientation: "h", title: { text: "times skipped", side: "top" }, x: 0, xanchor: "left",
      len: 0.6, y: 1.02, yanchor: "bottom" }
  }

  layout() {
    const [text, line] = [this.of("--st-text-color"), "rgba(127,140,153,0.22)"]
    const axis = { gridcolor: line, zeroline: false, automargin: true, color: text }
    return {
      template: {}, autosize: true, uirevision: this.header.run, shapes: this.outlines(),
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { size: 12, color: text },
      margin: { l: 8, r: 8, t: 28, b: 8 }, hovermode: "closest", showlegend: false,
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "drawclosedpath",
      xaxis: { ...axis, title: { text: "variability of the confidence" }, range: [-0.015, 0.52] },
      yaxis: { ...axis, title: { text: "mean confidence" }, range: [-0.03, 1.03], tickformat: ".0%" },
      newshape: { line: { color: text, width: 1.5 }, fillcolor: "rgba(127,140,153,0.14)" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: this.of("--st-text-color"), activecolor: "#2f80d8" },
    }
  }

  // Those of another run are not of this one.
  outlines() {
    if (this.drawnFor !== this.header.run) this.told = undefined
    const kept = this.drawnFor === this.header.run ? this.plot.layout?.shapes ?? [] : []
    this.drawnFor = this.header.run
    return kept
  }

  // Only the newest outline counts; one may also have been moved, or rubbed out.
  outlined() {
    const shapes = this.plot.layout.shapes ?? []
    if (shapes.length > 1) return window.Plotly.relayout(this.plot, { shapes: shapes.slice(-1) })
    const corners = shapes.length ? cornersOf(shapes[0]) : null
    const said = JSON.stringify(corners)
    if (said === (this.told ?? "null")) return
    this.told = said
    this.tell("region", corners && { ...corners, run: this.header.run })
  }

  listen() {
    this.plot.on("plotly_relayout", () => this.outlined())
  }

  close() {
    this.closed = true
    if (window.Plotly) window.Plotly.purge(this.plot)
  }
}

function cornersOf({ type, path, x0, x1, y0, y1 }) {
  if (type !== "path") return { x: [x0, x1, x1, x0], y: [y0, y0, y1, y1] }
  const corners = [...path.matchAll(/[ML]([^ML,Z]+),([^ML,Z]+)/g)]
  const [x, y] = [1, 2].map((part) => corners.map((corner) => Number(corner[part])))
  return x.length < LEAST ? null : { x, y }
}
