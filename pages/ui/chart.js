// A plotly figure that stays while what it shows changes. Plotly takes a browser longest of all
// that is on a page: what a person came for is drawn first where it says so.

const CHARTS = new WeakMap()
const LONGEST_WAIT_MS = 4000 // for what is to be drawn before

export default function ({ data, parentElement }) {
  let chart = CHARTS.get(parentElement)
  if (!chart) CHARTS.set(parentElement, (chart = new Chart(parentElement)))
  chart.show(data)
  return () => {
    chart.close()
    CHARTS.delete(parentElement)
  }
}

class Chart {
  constructor(parent) {
    this.plot = parent.querySelector(".ef-chart")
    this.note = parent.querySelector(".ef-note")
  }

  show(data) {
    const theme = this.of("--st-text-color") + this.of("--st-background-color")
    const before = this.data
    this.data = data
    if (before?.figure === data.figure && theme === this.theme) return
    this.theme = theme
    this.plot.setAttribute("aria-label", data.alt)
    this.plot.style.height = `${data.height}px`
    this.ready ??= drawnFirst(data.after).then(() => loadPlotly(new URL(data.plotly, location.href)))
    this.ready.then(() => this.draw(), () => { this.note.hidden = false })
  }

  of(name) { return getComputedStyle(this.plot).getPropertyValue(name).trim() }

  draw() {
    if (this.closed) return
    const { data, layout } = JSON.parse(this.data.figure)
    const [text, back] = [this.of("--st-text-color"), this.of("--st-background-color")]
    const axis = { gridcolor: "rgba(127,140,153,0.22)", zeroline: false, automargin: true, color: text }
    window.Plotly.react(this.plot, data, {
      ...layout, template: {}, autosize: true, dragmode: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { size: 12, color: text, family: getComputedStyle(this.plot).fontFamily },
      hoverlabel: { bgcolor: back, font: { color: text, size: 12 } },
      xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
    }, { responsive: true, displayModeBar: false })
  }

  close() {
    this.closed = true
    if (window.Plotly) window.Plotly.purge(this.plot)
  }
}

// Wait until an element is there, such as one that says it is drawn; not for ever.
function drawnFirst(selector) {
  const there = () => !selector || document.querySelector(selector)
  if (there()) return Promise.resolve()
  return new Promise((resolve) => {
    const seen = new MutationObserver(() => there() && done())
    const late = setTimeout(() => done(), LONGEST_WAIT_MS)
    const done = () => { seen.disconnect(); clearTimeout(late); resolve() }
    seen.observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-shown"] })
  })
}
