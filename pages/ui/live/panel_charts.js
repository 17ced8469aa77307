// The four charts. The server sends their definitions once and then streams data. A chart keeps
// its node as long as the panel exists, and its zoom as long as it shows the same run.

const TIMES = ["loss", "skip", "power"] // charts that share a horizontal axis
const RELEASES = ["pointerup", "pointercancel"] // pointercancel: a touch became a scroll
const KEEP = 3000 // most points before a new snapshot is requested, which thins them
const SORTED_BY = { steps: "step", power: "seconds" } // column by which a zoomed part is inserted

class Charts {
  constructor(root, ask) {
    this.ask = ask // sends a message to the server
    this.nodes = Object.fromEntries(
      [...root.querySelectorAll("[data-chart]")].map((el) => [el.dataset.chart, el])
    )
    this.root = root
    this.chosen = null // steps of smoothing chosen by a person
    this.log = true // whether the loss is drawn on a logarithmic scale
    this.runs = 0 // runs shown so far
    this.dirty = new Map() // chart -> tables with changes that are not drawn yet
    this.turn = [] // charts still to draw in this round
    this.spent = 0 // drawing time of this round, ms
    this.due = 0
    this.timer = null
    this.pressed = false
    this.plotly = null
    this.onRelease = () => { this.pressed = false; this.schedule() }
    for (const type of RELEASES) window.addEventListener(type, this.onRelease)
    // Plotly follows the window's size only, but a chart's size also changes with the page.
    this.sizes = new ResizeObserver((changed) => {
      for (const { target } of changed) {
        if (target.dataset.ready && target.offsetWidth) window.Plotly.Plots.resize(target)
      }
    })
    for (const el of Object.values(this.nodes)) this.sizes.observe(el)
    this.clear()
  }

  // Forget the run; keep the settings that a person chose for all runs.
  clear() {
    clearTimeout(this.asking)
    this.runs += 1
    this.tables = {}
    this.marks = []
    this.histogram = null
    this.axis = "step"
    this.range = null // the zoomed range that the time charts share
    this.detail = null // its series at full resolution
    this.touch("*")
  }

  define(charts, axes, columns) {
    this.columns = columns
    this.axes = Object.fromEntries(axes.map((axis) => [axis.id, axis]))
    this.charts = charts
    if (this.root.hasAttribute("data-present")) this.magnify()
    this.plain = new Set(Object.keys(this.nodes)) // charts whose definition is not drawn yet
    this.touch("*")
  }

  magnify() {
    const by = Math.max(1, Math.min(3, innerWidth / 900, innerHeight / 600))
    for (const chart of Object.values(this.charts)) {
      enlarge(chart, by)
      chart.layout.margin.t *= by
    }
  }

  // Redraw a chart from its definition and the current data.
  plot(name) {
    const el = this.nodes[name]
    const { data, layout } = this.charts[name]
    const touch = matchMedia("(pointer: coarse)").matches
    const narrow = el.clientWidth < 420
    const full = structuredClone({ ...layout, ...this.themed(layout), autosize: true, uirevision: `run ${this.runs}` })
    if (name === "loss") Object.assign(full.yaxis, this.lossScale())
    if (layout.meta.time) {
      Object.assign(full.xaxis, this.shared())
      full.xaxis.title.text = this.axes[this.axis].title
      full.xaxis.unifiedhovertitle = { text: this.hoverTitle() }
    }
    if (touch) full.dragmode = false // leave dragging to the page's scrolling
    if (narrow) full.legend.font = { size: 10 }
    const entries = data.filter((trace) => trace.showlegend !== false).length
    if (narrow && entries > (name === "power" ? 1 : 2)) full.margin.t = 72 // a second row
    const config = { displaylogo: false, doubleClick: "autosize",
      displayModeBar: touch ? false : "hover",
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "autoScale2d"]] }
    const filled = data.map((trace) => {
      const { "marker.size": size, ...values } = this.fill(trace.meta)
      return { ...trace, ...values, ...(size && { marker: { ...trace.marker, size } }) }
    })
    el.setAttribute("aria-label", `Chart: ${layout.title.text.replace(/<[^>]*>/g, "")}`)
    if (el.dataset.ready) return window.Plotly.react(el, filled, full, config)
    el.dataset.ready = "1"
    window.Plotly.newPlot(el, filled, full, config)
    el.addEventListener("pointerdown", () => { this.pressed = true })
    if (layout.meta.time) el.on("plotly_relayout", (event) => this.zoomed(name, event))
  }

  hoverTitle() {
    const { name, format } = this.axes[this.axis]
    return `${name} %{x:${format}}`
  }

  axisWords() {
    return { "xaxis.title.text": this.axes[this.axis].title, "xaxis.unifiedhovertitle.text": this.hoverTitle() }
  }

  // All time charts share one range: the zoomed range, or the whole run.
  shared() {
    if (this.range) return {}
    const end = Math.max(...["steps", "ref_steps", "power"].map((name) => this.furthest(name)))
    return end > 0 ? { range: [0, end * 1.01], autorange: false } : {}
  }

  // Text and hover colours of the page's theme. The roles' colours suit both themes.
  themed(layout) {
    const css = getComputedStyle(this.root)
    const of = (name) => css.getPropertyValue(name).trim()
    const [text, back] = [of("--st-text-color"), of("--st-background-color")]
    const soft = faded(text, 0.72)
    this.theme = text + back
    return {
      font: { ...layout.font, color: soft, family: css.fontFamily },
      title: { ...layout.title, font: { ...layout.title.font, color: text } },
      hoverlabel: { bgcolor: back, bordercolor: faded(text, 0.3), font: { color: text, size: 12 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: faded(text, 0.4), activecolor: soft },
      annotations: (layout.annotations ?? []).map((note) => ({ ...note, bgcolor: faded(back, 0.7) })),
    }
  }

  retheme() {
    const before = this.theme
    for (const [name, el] of Object.entries(this.nodes)) {
      if (!el.dataset.ready) continue
      const colours = this.themed(this.charts[name].layout)
      if (this.theme === before) return
      window.Plotly.relayout(el, colours)
    }
  }

  // Data -------------------------------------------------------------------------

  replace(arrays) {
    for (const name of ["steps", "evals", "power"]) this.tables[name] = this.rows(name, arrays[name])
    for (const name of ["ref_steps", "ref_evals"]) {
      if (arrays[name]) this.tables[name] = this.rows(name, arrays[name])
    }
    this.touch("steps", "evals", "power", "ref_steps", "ref_evals")
    this.zoomDetail()
  }

  append(arrays) {
    const span = this.span
    for (const name of ["steps", "evals", "power"]) {
      if (!arrays[name]) continue
      const more = this.rows(name, arrays[name])
      for (const column of Object.keys(more)) this.tables[name][column].push(...more[column])
      this.touch(name)
    }
    if (this.span !== span) this.touch("ref_steps")
    return Object.values(this.tables).every((rows) => rows.step.length <= KEEP)
  }

  setDetail(header, arrays) {
    if (!this.range || header.axis !== this.axis) return
    this.detail = {}
    for (const name of Object.keys(arrays)) this.detail[name] = this.rows(name, arrays[name])
    this.touch("steps", "power")
  }

  setHistogram(header, array) {
    const [centre, width, examples, lo, hi, cut] = array ? array.rows : [[], [], [], [], [], []]
    this.histogram = { header, centre, width, examples, lo, hi, cut }
    this.touch("histogram")
  }

  setMarks(marks) {
    this.marks = marks
    this.touch("marks")
  }

  rows(name, array) {
    const columns = this.columns[name.replace("ref_", "")]
    return Object.fromEntries(columns.map((c, i) => [c, array ? Array.from(array.rows[i]) : []]))
  }

  // The table to draw, with the zoomed part at full resolution if it is known.
  drawn(name) {
    const base = this.tables[name]
    const fine = this.detail?.[name]
    if (!base || !fine || !fine.step.length) return base
    const key = SORTED_BY[name]
    const [first, last] = [fine[key][0], fine[key][fine[key].length - 1]]
    const before = base[key].findIndex((x) => x >= first)
    const after = base[key].findIndex((x) => x > last)
    return Object.fromEntries(Object.keys(base).map((c) => [c, [
      ...base[c].slice(0, before < 0 ? base[c].length : before), ...fine[c],
      ...(after < 0 ? [] : base[c].slice(after)),
    ]]))
  }

  last(name, column) {
    const values = this.tables[name]?.[column]
    return values?.length ? values[values.length - 1] : NaN
  }

  // The joules of the newest steps are extrapolated, so that the last point of a line may lie
  // before an earlier one.
  furthest(name) {
    const values = this.tables[name]?.[this.axis] ?? []
    return values.reduce((most, x) => (x > most ? x : most), 0) // NaN is never greater
  }

  // Drawing ----------------------------------------------------------------------

  touch(...tables) {
    for (const name of Object.keys(this.nodes)) {
      const dirty = this.dirty.get(name) ?? new Set()
      this.dirty.set(name, dirty)
      for (const table of tables) dirty.add(table)
    }
    this.schedule()
  }

  // Draw at the next due time, or immediately in response to a person.
  schedule(now = false) {
    if (now) this.due = 0
    if (now) clearTimeout(this.timer)
    else if (this.timer) return
    const wait = Math.max(0, this.due - performance.now())
    this.timer = setTimeout(() => requestAnimationFrame(() => this.frame()), wait)
  }

  // One chart per frame, so that a dragged slider never waits for all four. A round of all charts
  // starts ten times a second, or less often to take at most 25% of the time, but at least twice
  // a second if the browser is fast enough.
  frame() {
    this.timer = null
    if (document.hidden || this.pressed || this.closed) return // retried on show or release
    if (!window.Plotly || !this.charts || !this.tables.steps) return // retried when data arrives
    if (!this.turn.length) this.turn = Object.keys(this.nodes)
    const started = performance.now()
    while (this.turn.length && !this.draw(this.turn.shift())) ; // skip charts without changes
    this.spent += performance.now() - started
    if (!this.turn.length) {
      this.due = performance.now() + Math.min(450, Math.max(100 - this.spent, 3 * this.spent))
      this.spent = 0
    }
    if (this.turn.length || this.dirty.size) this.schedule()
  }

  // Update a chart; return whether there was anything to draw.
  draw(name) {
    const dirty = this.dirty.get(name) ?? new Set()
    this.dirty.delete(name)
    if (this.plain.delete(name)) {
      this.plot(name)
      return true
    }
    const { data, layout } = this.charts[name]
    const indices = [...data.keys()].filter((i) => dirty.has("*") || dirty.has(data[i].meta.table))
    if (!indices.length) return false
    const memo = {}
    const filled = indices.map((i) => this.fill(data[i].meta, memo))
    const keys = new Set(filled.flatMap(Object.keys))
    const update = Object.fromEntries([...keys].map((k) => [k, filled.map((f) => f[k])]))
    const { range, autorange } = layout.meta.time ? this.shared() : {}
    window.Plotly.update(this.nodes[name], update, {
      ...(layout.meta.time && this.axisWords()),
      ...(name === "loss" && { "yaxis.nticks": this.lossScale().nticks }),
      ...(range && { "xaxis.range": range, "xaxis.autorange": autorange }),
    }, indices)
    return true
  }

  fill(meta, memo = {}) {
    if (meta.table === "marks") return this.fillMarks()
    if (meta.table === "histogram") return this.fillHistogram(meta.y)
    const rows = (memo[meta.table] ??= this.drawn(meta.table))
    if (!rows) return { x: [], y: [] }
    const y = meta.smooth ? smooth(rows.step, rows[meta.y], this.span) : rows[meta.y]
    return { x: rows[this.axis], y }
  }

  fillMarks() {
    const at = this.marks.map((mark) => mark.x[this.axis])
    return {
      x: at.flatMap((x) => [x, x, null]),
      y: at.flatMap(() => [0, 1, null]),
      text: this.marks.flatMap((mark) => ["", mark.text, ""]),
      "marker.size": at.flatMap(() => [0, 8, 0]),
    }
  }

  fillHistogram(column) {
    const bars = this.histogram
    if (!bars) return { x: [], y: [] }
    if (column === "threshold") {
      const at = bars.header?.threshold
      return at ? { x: [Math.log10(at), Math.log10(at)], y: [0, 1] } : { x: [], y: [] }
    }
    const shown = [...bars.cut.keys()].filter((i) => !!bars.cut[i] === (column === "cut"))
    const of = (values) => shown.map((i) => values[i])
    return { x: of(bars.centre), width: of(bars.width), y: of(bars.examples),
      customdata: shown.map((i) => [bars.lo[i], bars.hi[i]]) }
  }

  // Controls ---------------------------------------------------------------------

  setAxis(axis) {
    this.axis = axis
    this.range = this.detail = null
    this.touch("*")
    this.schedule(true)
  }

  setSmoothing(position) {
    this.chosen = SPANS[position]
    this.touch("steps", "ref_steps")
    this.schedule(true)
  }

  // Steps of smoothing: the chosen number, or the default for the run's length.
  get span() {
    return this.chosen ?? defaultSpan(this.last("steps", "step"))
  }

  smoothing() {
    if (this.span === 0) return "off"
    return Number.isNaN(this.span) ? "" : `over ${this.span} ${this.span === 1 ? "step" : "steps"}`
  }

  setLog(on) {
    this.log = on
    if (!this.nodes.loss.dataset.ready) return
    const scale = Object.entries(this.lossScale()).map(([name, value]) => [`yaxis.${name}`, value])
    window.Plotly.relayout(this.nodes.loss, { ...Object.fromEntries(scale), "yaxis.autorange": true })
  }

  lossScale() {
    return this.log ? { type: "log", tickformat: ".2~g", nticks: logTicks(this.losses()) }
      : { type: "linear", tickformat: "", nticks: 6 }
  }

  losses() { // all values on the axis of the loss
    const own = (this.charts?.loss.data ?? []).filter((trace) => (trace.yaxis ?? "y") === "y")
    return own.flatMap(({ meta }) => this.tables[meta.table]?.[meta.y] ?? [])
  }

  // One time chart was zoomed or reset: zoom the others, and request full resolution.
  zoomed(name, event) {
    const given = event["xaxis.range"] ?? [event["xaxis.range[0]"], event["xaxis.range[1]"]]
    if (event["xaxis.autorange"]) this.follow(name, null)
    else if (Number.isFinite(given[0])) this.follow(name, given)
  }

  follow(from, range) {
    if (String(range) === String(this.range)) return
    this.range = range
    for (const name of TIMES) {
      if (name === from || !this.nodes[name].dataset.ready) continue
      window.Plotly.relayout(this.nodes[name],
        range ? { "xaxis.range": [...range] } : { "xaxis.autorange": true, "yaxis.autorange": true })
    }
    if (range) return this.zoomDetail()
    this.detail = null
    this.touch("*")
    this.schedule(true)
  }

  zoomDetail() {
    clearTimeout(this.asking)
    if (!this.range) return
    const [x0, x1] = this.range
    this.asking = setTimeout(() => this.ask({ view: { axis: this.axis, x0, x1 } }), 150)
  }

  close() {
    this.closed = true
    this.sizes.disconnect()
    clearTimeout(this.asking)
    clearTimeout(this.timer)
    for (const type of RELEASES) window.removeEventListener(type, this.onRelease)
    for (const el of Object.values(this.nodes)) if (el.dataset.ready) window.Plotly.purge(el)
  }
}
