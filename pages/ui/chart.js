// A plotly figure that is updated in place.

const CHARTS = new WeakMap()

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
    this.ready ??= loadPlotly(new URL(data.plotly, location.href))
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
