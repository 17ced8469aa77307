// The sliders of the run's policy, with the requested value, the applied value and its step.

const UNFOLDED = 3 // sliders of a policy that are shown without unfolding
const SEND_MS = 16 // shortest interval between messages of a dragged slider

class Knobs {
  constructor(box, send) {
    this.box = box
    this.send = send // returns whether the message went out
    this.knobs = {}
    this.seq = 0
    this.clear()
  }

  // Forget the run and the requested values.
  clear() {
    this.forgetRequests()
    this.box.replaceChildren()
    delete this.box.dataset.specs
    this.knobs = {}
    this.changedAt = {} // knob -> step of its last change
    this.inForce = {}
    this.over = false
  }

  // Requests of a lost connection are not answered; the server then sends the applied values.
  forgetRequests() {
    this.chosen = null
    for (const knob of Object.values(this.knobs)) {
      clearTimeout(knob.waiting)
      Object.assign(knob, { waiting: null, requested: null })
    }
  }

  build(specs, info) {
    this.confidence = info.confidence // whether a loss is minus the log of a confidence
    const same = JSON.stringify(specs)
    if (this.box.dataset.specs === same) return
    this.box.dataset.specs = same
    this.box.replaceChildren()
    this.knobs = {}
    const owners = info.owners ?? {}
    const titles = [...new Set(specs.map((spec) => owners[spec.name]))]
    for (const title of titles) {
      if (titles.length > 1) this.box.append(make("h3", { textContent: title }))
      this.section(specs.filter((spec) => owners[spec.name] === title))
    }
    if (!specs.length) this.box.append(make("p", { className: "ec-help" }, "Full training has no thresholds to move."))
  }

  // The sliders of one policy. Of many, only the first are unfolded, so that the charts stay in
  // sight on a phone.
  section(specs) {
    const entries = []
    const groups = new Set()
    for (const spec of specs) {
      const members = specs.filter((s) => spec.group && s.group === spec.group)
      if (members.length < 2) entries.push([this.row(spec)])
      else if (!groups.has(spec.group)) {
        entries.push([this.choice(spec.group, members), ...members.map((s) => this.row(s))])
      }
      groups.add(spec.group)
    }
    const shown = entries.length > UNFOLDED + 1 ? UNFOLDED : entries.length
    this.box.append(...entries.slice(0, shown).flat())
    if (shown < entries.length) {
      this.box.append(make("details", { className: "ec-rest" },
        make("summary", { textContent: `${entries.length - shown} more` }), ...entries.slice(shown).flat()))
    }
  }

  // One knob of a group applies; choosing another one applies the value of its slider.
  choice(group, members) {
    const buttons = members.map((spec) => make("button", {
      type: "button", textContent: spec.label, dataset: { testid: `choose-${spec.name}`, knob: spec.name },
      onclick: () => {
        this.chosen = spec.name
        this.ask(this.knobs[spec.name], this.knobs[spec.name].value)
        this.showGroups()
      },
    }))
    const el = make("div", { className: "ec-seg ec-wide", dataset: { group } }, ...buttons)
    el.setAttribute("role", "group")
    el.setAttribute("aria-label", `Which ${group} applies`)
    return el
  }

  row(spec) {
    const id = `ec-knob-${spec.name}`
    const log = spec.log && spec.lo > 0
    const range = make("input", { type: "range", id, dataset: { testid: `slider-${spec.name}` },
      min: log ? 0 : spec.lo, max: log ? 1000 : spec.hi, step: log ? 1 : spec.step })
    const number = make("input", { type: "number", min: spec.lo, max: spec.hi,
      step: spec.integer ? spec.step : "any", dataset: { testid: `number-${spec.name}` } })
    const force = make("output", { className: "ec-force", dataset: { testid: `value-${spec.name}` } })
    const row = make("div", { className: "ec-knob" },
      make("div", { className: "ec-knob-head" }, make("label", { htmlFor: id, textContent: spec.label }), number),
      range, force, make("p", { className: "ec-help", id: `${id}-help`, textContent: spec.help }))
    number.setAttribute("aria-label", `${spec.label}, value`)
    range.setAttribute("aria-describedby", `${id}-help`)
    const knob = { spec, log, range, number, force, row, held: false, requested: null, value: spec.default ?? spec.start }
    range.oninput = () => this.ask(knob, this.fromRange(knob), true)
    range.onpointerdown = () => { knob.held = true }
    range.onpointerup = range.onpointercancel = range.onblur = () => { knob.held = false }
    number.oninput = () => { knob.typing = true }
    number.onblur = () => { knob.typing = false }
    number.onkeydown = (event) => this.nudge(knob, event)
    number.onchange = () => {
      knob.typing = false
      if (number.checkValidity() && number.value !== "") return this.ask(knob, Number(number.value))
      knob.error = `${spec.label} must be from ${spec.lo} to ${spec.hi}`
      this.showKnob(knob)
    }
    this.knobs[spec.name] = knob
    this.place(knob)
    return row
  }

  // Arrow keys in a field for any number move by the slider's steps.
  nudge(knob, event) {
    const turn = { ArrowUp: "stepUp", ArrowDown: "stepDown" }[event.key]
    if (!turn || knob.spec.integer) return
    event.preventDefault()
    knob.typing = false
    knob.range[turn](knob.log ? 10 : 1)
    this.ask(knob, this.fromRange(knob), true)
  }

  fromRange({ spec, log, range }) {
    if (!log) return Number(range.value)
    const value = Number((spec.lo * (spec.hi / spec.lo) ** (range.value / 1000)).toPrecision(3))
    return Math.min(spec.hi, Math.max(spec.lo, spec.integer ? Math.round(value) : value))
  }

  place({ spec, log, range, number, value, typing }, dragged = false) {
    if (!dragged) range.value = log ? (1000 * Math.log(value / spec.lo)) / Math.log(spec.hi / spec.lo) : value
    range.setAttribute("aria-valuetext", this.text(spec, value))
    range.style.setProperty("--at", `${(100 * (range.value - range.min)) / (range.max - range.min)}%`)
    if (!typing) number.value = value // do not overwrite what a person is typing
  }

  text(spec, value) {
    const sure = this.confidence && spec.name === "loss_threshold"
    return sure ? `${value} (confidence ${(100 * Math.exp(-value)).toPrecision(3)}%)` : String(value)
  }

  ask(knob, value, dragged = false) {
    Object.assign(knob, { value, requested: value, error: null })
    this.place(knob, dragged)
    this.showKnob(knob)
    if (knob.waiting) return
    const wait = (knob.sentAt ?? -SEND_MS) + SEND_MS - performance.now()
    if (wait > 0) knob.waiting = setTimeout(() => this.ship(knob), wait)
    else this.ship(knob)
  }

  ship(knob) {
    Object.assign(knob, { waiting: null, sentAt: performance.now(), seq: ++this.seq })
    const sent = this.send({ set: { name: knob.spec.name, value: knob.value, seq: knob.seq } })
    if (!sent) Object.assign(knob, { requested: null, error: "Not connected: the value was not sent" })
    this.showKnob(knob)
  }

  // Messages from the server -----------------------------------------------------

  // A request was applied, or replaced by a later one from another tab.
  applied({ name, step, seq, value }) {
    const knob = this.knobs[name]
    if (!knob) return
    this.changedAt[name] = step
    this.inForce = { ...this.inForce, [name]: value }
    if (seq === knob.seq && !knob.waiting) {
      knob.requested = null
      if (this.chosen === name) this.chosen = null
    }
    this.showKnob(knob)
  }

  // Returns whether one of the sliders was refused.
  refused({ seq, error }) {
    const knob = Object.values(this.knobs).find((k) => seq && k.seq === seq)
    if (!knob) return false
    Object.assign(knob, { requested: null, error })
    if (this.chosen === knob.spec.name) this.chosen = null
    this.showKnob(knob)
    return true
  }

  show(inForce, over) {
    this.inForce = inForce
    this.over = over
    for (const knob of Object.values(this.knobs)) this.showKnob(knob)
    this.showGroups()
  }

  showKnob(knob) {
    const { spec, force, range, number } = knob
    const value = this.inForce[spec.name]
    if (value !== knob.known) Object.assign(knob, { known: value, error: null })
    if (this.over && (knob.error || knob.requested !== null)) { // drop what was never applied
      Object.assign(knob, { error: null, requested: null, value: undefined })
    }
    if (value != null && value === knob.requested && !knob.waiting) knob.requested = null
    if (knob.requested === null && !knob.held && value != null && value !== knob.value) {
      knob.value = value
      this.place(knob)
    }
    range.disabled = number.disabled = this.over
    const step = this.changedAt[spec.name]
    const since = step === undefined ? "" : ` · applied at step ${step.toLocaleString("en")}`
    const pending = knob.requested !== null && !this.over
    force.dataset.state = knob.error ? "error" : pending ? "asked" : "applied"
    force.textContent = knob.error ?? (pending
      ? `${this.text(spec, knob.requested)} from the next batch on`
      : value == null ? "" : `${this.text(spec, value)} ${this.over ? "at the end" : "now"}${since}`)
  }

  showGroups() {
    for (const group of this.box.querySelectorAll("[data-group]")) {
      const names = [...group.children].map((button) => button.dataset.knob)
      const inForce = names.find((name) => this.inForce[name] != null)
      if (inForce === this.chosen) this.chosen = null
      const shown = names.includes(this.chosen) ? this.chosen : inForce ?? names[0]
      for (const button of group.children) {
        button.setAttribute("aria-pressed", button.dataset.knob === shown)
        button.disabled = this.over
        this.knobs[button.dataset.knob].row.hidden = button.dataset.knob !== shown
      }
    }
  }
}
