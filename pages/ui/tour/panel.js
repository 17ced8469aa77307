// The tour's panel, updated twice a second. Elements are reused, so that bars move and nothing
// flickers.

const TOURS = new WeakMap()

export default function ({ data, parentElement }) {
  let tour = TOURS.get(parentElement)
  if (!tour) TOURS.set(parentElement, (tour = new Tour(parentElement)))
  tour.show(data)
}

function make(tag, className, ...children) {
  const el = Object.assign(document.createElement(tag), { className })
  el.append(...children)
  return el
}

function say(el, text) {
  if (el.textContent !== text) el.textContent = text
}

class Tour {
  constructor(parent) {
    this.root = parent.querySelector(".et-tour")
    this.el = (name) => this.root.querySelector(`[data-el="${name}"]`)
    this.parts = new Map() // elements by name
  }

  part(name, create) {
    if (!this.parts.has(name)) this.parts.set(name, create())
    return this.parts.get(name)
  }

  show(data) {
    this.root.dataset.stage = data.stage
    this.el("recorded").hidden = !data.recorded
    say(this.el("recorded"), data.recorded)
    say(this.el("caption"), data.caption)
    say(this.el("note"), data.note)
    data.steps.forEach((step, place) => this.showStep(step, place))
    for (const lane of data.lanes) this.showLane(lane)
    this.el("rows").hidden = !data.rows.length
    data.rows.forEach((row) => this.showRow(row))
    for (const el of this.el("rows").children) el.hidden = !data.rows.some((row) => row.name === el.dataset.row)
    this.showEnding(data.ending)
  }

  showStep(step, place) {
    const el = this.part(`step ${place}`, () => this.el("steps").appendChild(make("li", "et-step")))
    say(el, step.title)
    el.dataset.state = step.state
    if (step.state === "now") el.setAttribute("aria-current", "step")
    else el.removeAttribute("aria-current")
  }

  showLane(lane) {
    const el = this.part(`lane ${lane.id}`, () => {
      const made = make("article", "et-lane", make("header", "", make("h2", ""), make("span", "et-pill")),
        make("div", "et-pictures"), make("p", "et-metric", make("strong", ""), make("span", "")))
      made.dataset.lane = lane.id
      return this.el("lanes").appendChild(made)
    })
    const [head, pictures, metric] = el.children
    say(head.children[0], lane.name)
    say(head.children[1], lane.status)
    head.children[1].dataset.status = lane.status
    say(metric.children[0], lane.value)
    say(metric.children[1], lane.meaning)
    for (const picture of lane.pictures) this.showPicture(pictures, lane.id, picture)
  }

  showPicture(box, lane, picture) {
    const el = this.part(`picture ${lane} ${picture.name}`, () =>
      box.appendChild(make("figure", "", make("img", ""), make("figcaption", ""))))
    const [image, words] = el.children
    if (image.src !== picture.url) image.src = picture.url
    image.alt = picture.caption
    say(words, picture.caption)
  }

  showRow(row) {
    const el = this.part(`row ${row.name}`, () => {
      const made = make("div", "et-row", make("h2", ""), ...row.bars.map(() =>
        make("div", "et-bar", make("span", "et-who"), make("span", "et-track", make("i", ""), make("i", "et-band")), make("span", "et-amount"))))
      made.dataset.row = row.name
      return this.el("rows").appendChild(made)
    })
    const [name, ...bars] = el.children
    if (name.dataset.note !== row.note) {
      name.dataset.note = row.note
      name.replaceChildren(row.name, row.note ? make("small", "", row.note) : "")
    }
    row.bars.forEach((bar, place) => {
      const [who, track, amount] = bars[place].children
      bars[place].dataset.lane = bar.lane
      say(who, bar.who)
      say(amount, bar.text)
      // An interval is drawn as a band alone, without a bar below it.
      track.children[0].style.width = `${bar.hi > bar.lo ? 0 : 100 * bar.hi}%`
      track.children[1].style.left = `${100 * bar.lo}%`
      track.children[1].style.width = `${100 * (bar.hi - bar.lo)}%`
    })
  }

  showEnding(ending) {
    const box = this.el("ending")
    box.hidden = !ending
    const text = JSON.stringify(ending ?? null)
    if (this.shownEnding === text) return
    this.shownEnding = text
    box.replaceChildren(...(ending ?? []).map(({ title, said }) => make("div", "et-said",
      make("h2", "", title), make("ul", "", ...said.map((sentence) => make("li", "", sentence))))))
  }
}
