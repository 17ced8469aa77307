// The live panel, which shows the messages of one WebSocket. panel.py puts the panel_*.js files
// before this one.

const PANELS = new WeakMap()
const SPEAK_MS = 5000 // shortest interval between announcements to a screen reader
const SILENT_MS = 3500 // the server sends at least once a second
const FINAL = ["finished", "stopped", "failed", "interrupted"]
const CUT_SHORT = ["stopped", "failed", "interrupted"]
const DONE = { pause: "Pausing", resume: "Resuming", step: "Stepping", stop: "Stopping" }

export default function (component) {
  const { data, parentElement } = component
  let panel = PANELS.get(parentElement)
  if (!panel) PANELS.set(parentElement, (panel = new Panel(parentElement, data)))
  else panel.update(data)
  return () => {
    panel.close()
    PANELS.delete(parentElement)
  }
}

class Panel {
  constructor(parent, data) {
    this.root = parent.querySelector(".ec-live")
    this.root.toggleAttribute("data-present", !!data.present)
    this.el = (name) => this.root.querySelector(`[data-el="${name}"]`)
    this.test = (name) => this.root.querySelector(`[data-testid="${name}"]`)
    this.charts = new Charts(this.root, (message) => this.send(message))
    this.knobs = new Knobs(this.el("knobs"), (message) => this.send(message))
    this.views = new Views(this.el("view"))
    this.spokenAt = 0
    this.listen()
    this.timer = setInterval(() => this.everySecond(), 1000)
    const plotly = new URL(data.plotly, location.href)
    loadPlotly(plotly).then(
      () => this.charts.touch("*"),
      () => { this.broken = "The charts' script could not be loaded: reload the page. The numbers stay live." }
    )
    this.open(data)
  }

  update(data) {
    this.charts.retheme()
    this.views.retheme()
    if (data.run === this.data.run) return
    this.socket?.close()
    this.clear()
    this.open(data)
  }

  // Nothing of the previous run may remain.
  clear() {
    this.info = this.state = this.acting = this.resyncing = null
    this.errorUntil = this.lostAt = this.heardAt = null
    this.attempt = this.spokenAt = 0
    this.charts.clear()
    this.knobs.clear()
    this.views.clear()
    for (const name of ["tiles", "axes"]) this.el(name).replaceChildren()
    for (const name of ["setup", "passes", "left", "drawn"]) this.el(name).textContent = ""
    this.el("reason").hidden = true
    this.el("table").querySelector("tbody").replaceChildren()
    this.el("title").textContent = "Connecting"
    Object.assign(this.test("run-status"), { textContent: "connecting" }).dataset.status = "connecting"
    this.el("exploratory").hidden = true
    this.test("step-count").textContent = "0"
    this.showWays({ command: "", loop: "" })
    this.el("bar").firstElementChild.style.width = "0"
    this.el("bar").removeAttribute("aria-valuenow")
    this.root.dataset.empty = true
    this.el("wait").textContent = "Waiting for the first point"
    this.banner("")
  }

  close() {
    this.closed = true
    clearInterval(this.timer)
    clearTimeout(this.retry)
    document.removeEventListener("visibilitychange", this.onShow)
    this.socket?.close()
    this.charts.close()
    this.views.close()
  }

  // Connection -------------------------------------------------------------------

  open(data) {
    clearTimeout(this.retry)
    this.data = data
    this.cursor = null
    this.knobs.forgetRequests()
    const url = new URL(data.live, location.href)
    url.protocol = url.protocol.replace("http", "ws")
    url.search = new URLSearchParams({ run: data.run })
    const socket = new WebSocket(url)
    socket.binaryType = "arraybuffer"
    socket.onmessage = (event) => socket === this.socket && this.receive(event.data)
    socket.onclose = (event) => socket === this.socket && this.lost(event)
    this.socket = socket
  }

  lost(event) {
    this.lostAt ??= Date.now()
    if (event.code === 4404) this.errorUntil = Infinity // there is no such run; the server has sent the reason
    if (this.closed || event.code === 4404) return
    this.attempt = (this.attempt ?? 0) + 1
    const wait = Math.min(8000, 250 * 2 ** this.attempt)
    this.retry = setTimeout(() => this.open(this.data), wait)
  }

  send(message) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false
    this.socket.send(JSON.stringify(message))
    return true
  }

  receive(content) {
    this.heardAt = Date.now()
    this.lostAt = null
    this.attempt = 0
    if (typeof content === "string") return this.receiveText(JSON.parse(content))
    const [header, arrays] = decode(content)
    if (header.kind === "window") return this.charts.setDetail(header, arrays)
    if (header.kind === "view") return this.views.show(header.view, arrays, this.info?.captions, true)
    if (header.kind === "snapshot") this.charts.replace(arrays)
    else if (!this.cursor || String(header.from) !== String(this.cursor)) return this.resync()
    else if (!this.charts.append(arrays)) this.resync()
    this.cursor = header.to
    if (header.marks) this.charts.setMarks(header.marks)
    if (header.command) this.showWays(header)
    if (header.applied) this.knobs.changedAt = header.applied
    if (header.histogram) this.charts.setHistogram(header.histogram, arrays.histogram)
    if (header.view) this.views.show(header.view, arrays, this.info?.captions)
    this.showStatus(header.status)
    this.resyncing = null
  }

  resync() {
    if (this.resyncing) return
    this.resyncing = true
    this.send({ snapshot: true })
  }

  receiveText(message) {
    if (message.hello) this.greet(message.hello)
    else if (message.error) this.refused(message)
    else if (message.applied) this.knobs.applied(message.applied)
  }

  greet(hello) {
    this.info = hello.info
    this.errorUntil = null
    this.el("title").textContent = [this.data.name, hello.info.title ?? hello.run].filter(Boolean).join(" · ")
    this.el("title").title = hello.run // the id, as a tooltip
    this.el("setup").textContent = hello.info.setup ?? ""
    this.charts.define(hello.charts, hello.axes, hello.columns)
    this.showAxes(hello.axes)
    this.knobs.build(hello.knobs, hello.info)
  }

  refused(message) {
    if (!this.knobs.refused(message)) this.banner(message.error)
    this.errorUntil = this.info ? Date.now() + 6000 : Infinity // no greeting means that there is no run
    this.acting = null
  }

  // Header and tiles -------------------------------------------------------------

  showStatus(state) {
    const over = FINAL.includes(state.status)
    const changed = this.state?.status !== state.status
    const stepped = this.acting === DONE.step && this.state?.step !== state.step
    this.state = state
    if (changed || stepped) this.acting = null
    const pill = this.test("run-status")
    pill.textContent = state.status
    pill.dataset.status = state.status
    this.el("exploratory").hidden = !state.exploratory
    this.test("step-count").textContent = state.step.toLocaleString("en")
    this.el("passes").textContent = state.passes
    this.el("left").textContent = this.acting && !over ? `${this.acting} …`
      : over || state.status === "queued" ? "" : state.eta ? `${state.eta} left` : "estimating time left"
    const preparing = !over && state.status !== "queued" && state.step === 0 && this.info?.preparing
    this.showProgress(state, preparing && state.status === "running")
    const words = state.reason || preparing || ""
    this.el("reason").hidden = !words
    this.el("reason").textContent = words
    this.root.dataset.empty = state.step === 0
    this.el("wait").textContent = over ? "This run has no points"
      : state.status === "queued" ? "Waiting for its turn" : "Waiting for the first point"
    this.showButtons(state, over)
    showTiles(this.el("tiles"), state.tiles)
    this.knobs.show(state.knobs, over)
    this.el("repeats").textContent = `Run id: ${this.data.run}. ` + (CUT_SHORT.includes(state.status)
      ? `The run was ${state.status}. The command below trains the same configuration to its end, `
      : "The command below repeats the run, ") + "with every knob change."
    this.speak(state, changed)
    this.showDrawn(state.step)
  }

  // The length of the preparation is unknown, so the bar only shows that it continues.
  showProgress(state, preparing) {
    const bar = this.el("bar")
    bar.dataset.preparing = !!preparing
    bar.firstElementChild.style.width = preparing ? "" : `${100 * state.progress}%`
    if (!preparing) return bar.setAttribute("aria-valuenow", Math.round(100 * state.progress))
    bar.removeAttribute("aria-valuenow")
    const seconds = this.charts.last("power", "seconds")
    if (this.acting) return
    this.el("left").textContent = "preparing" + (seconds > 0 ? ` for ${Math.floor(seconds)} s` : "")
  }

  showButtons(state, over) {
    const pause = this.test("btn-pause")
    pause.textContent = state.status === "paused" ? "Resume" : "Pause"
    this.el("actions").hidden = over
    for (const button of this.el("pace").children) {
      button.setAttribute("aria-pressed", button.dataset.pace === state.pace)
    }
  }

  showWays({ command, loop }) { // commands: to repeat the run, and for training of one's own
    this.test("command").textContent = command
    this.test("loop").textContent = loop
    this.el("own").hidden = !loop
  }

  showDrawn(steps) {
    this.el("smoothing").textContent = this.charts.smoothing()
    const points = this.charts.tables.steps?.step.length ?? 0
    this.el("drawn").textContent = points && points < steps
      ? `${points.toLocaleString("en")} of ${steps.toLocaleString("en")} steps drawn, peaks kept` : ""
  }

  speak(state, changed) {
    if (!changed && Date.now() - this.spokenAt < SPEAK_MS) return
    this.spokenAt = Date.now()
    const [metric, skip] = ["metric", "skip"].map((id) => state.tiles.find((tile) => tile.id === id))
    this.el("spoken").textContent = `${state.status}, step ${state.step}. ` +
      `${metric.label} ${metric.value} ${metric.unit}, ${skip.label} ${skip.value} ${skip.unit}.`
  }

  // The age is outside the alert; inside, a screen reader would read it out every second.
  banner(text, age = "") {
    this.test("banner").hidden = !text
    const alert = this.el("alert")
    if (alert.textContent !== text) alert.textContent = text
    this.el("age").textContent = age
  }

  everySecond() {
    const now = Date.now()
    const age = Math.round((now - (this.heardAt ?? now)) / 1000)
    const silent = this.lostAt ? now - this.lostAt > 1000 : this.heardAt && now - this.heardAt > SILENT_MS
    if (this.errorUntil === Infinity) return
    if (silent) this.banner("Connection lost · reconnecting", this.heardAt ? ` · data ${age} s old` : "")
    else if (!(this.errorUntil > now)) this.banner(this.broken ?? "")
    if (this.el("table").open) this.showTable()
  }

  // Tools, table ------------------------------------------------------------------

  showAxes(axes) {
    this.el("axes").replaceChildren(...axes.map((axis) => {
      const button = make("button", { type: "button", textContent: axis.name, title: axis.why,
        disabled: !!axis.why, dataset: { testid: `x-axis-${axis.id}`, axis: axis.id } })
      button.onclick = () => { this.charts.setAxis(axis.id); this.pressAxis() }
      return button
    }))
    this.pressAxis()
  }

  pressAxis() {
    for (const button of this.el("axes").children) {
      button.setAttribute("aria-pressed", button.dataset.axis === this.charts.axis)
    }
  }

  showTable() {
    const of = (table, column, digits) => {
      const value = this.charts.last(table, column)
      if (!Number.isFinite(value)) return "not known"
      return value.toLocaleString("en", { maximumSignificantDigits: digits })
    }
    // Joules are never shown without their quality.
    const quality = this.state?.tiles.find((tile) => tile.id === "energy")?.quality
    const joules = !quality || quality === "unavailable" ? [["Energy", "not known"]]
      : Number.isFinite(this.charts.last("power", "energy_j"))
        ? [[`Power, W (${quality})`, of("power", "power_w", 4)], [`Energy, J (${quality})`, of("power", "energy_j", 5)]]
        : [[`Energy, J (${quality}), lowest`, of("power", "energy_lo_j", 4)],
          [`Energy, J (${quality}), highest`, of("power", "energy_hi_j", 4)]]
    const rows = [["Step", of("steps", "step", 9)], ["Epochs", of("steps", "epochs", 4)],
      ["Seconds", of("steps", "seconds", 4)], ["FLOPs", of("steps", "flops", 4)],
      ["Training loss", of("steps", "loss_mean", 4)], ["Validation loss", of("evals", "loss", 4)],
      [this.info?.evaluated_label ?? "Metric", of("evals", "metric", 4)],
      ["Skipped now, share", of("steps", "skipped_now", 3)],
      ["Skipped since the start, share", of("steps", "skipped", 3)],
      ...joules]
    this.el("table").querySelector("tbody").replaceChildren(...rows.map(([name, value]) =>
      make("tr", {}, make("th", { scope: "row", textContent: name }), make("td", { textContent: value }))))
  }

  act(what) {
    if (!this.send({ do: what })) return this.banner("Not connected: the command was not sent")
    this.acting = DONE[what]
    this.el("left").textContent = `${DONE[what]} …`
  }

  listen() {
    this.test("btn-pause").onclick = () => this.act(this.state?.status === "paused" ? "resume" : "pause")
    this.test("btn-step").onclick = () => this.act("step")
    this.test("btn-stop").onclick = () => this.act("stop")
    for (const button of this.el("pace").children) {
      button.onclick = () => this.send({ pace: button.dataset.pace })
    }
    const smoothing = this.test("smoothing")
    smoothing.oninput = () => {
      this.charts.setSmoothing(Number(smoothing.value))
      this.el("smoothing").textContent = this.charts.smoothing()
    }
    const log = this.test("log-y")
    log.onchange = () => this.charts.setLog(log.checked)
    log.onchange() // a browser may restore an unticked box
    this.el("table").ontoggle = () => this.showTable()
    for (const button of this.root.querySelectorAll("[data-copies]")) {
      button.onclick = () => {
        navigator.clipboard.writeText(this.test(button.dataset.copies).textContent).then(
          () => { button.textContent = "Copied" },
          () => { button.textContent = "Select and copy" })
        setTimeout(() => { button.textContent = "Copy" }, 2000)
      }
    }
    this.onShow = () => this.charts.schedule()
    document.addEventListener("visibilitychange", this.onShow)
  }
}
