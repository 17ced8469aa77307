// The two keys of presenter mode: F for the whole screen, Escape to leave.

const SCREENS = new WeakMap()

export default function ({ data, parentElement }) {
  if (!SCREENS.has(parentElement)) SCREENS.set(parentElement, listen(parentElement, data))
  return () => {
    SCREENS.get(parentElement)?.()
    SCREENS.delete(parentElement)
  }
}

function listen(parent, data) {
  const button = parent.querySelector("button")
  const said = parent.querySelector('[data-el="said"]')
  const refused = () => { said.textContent = "This browser refused full screen: try F11. Esc leaves" }
  const toggle = () => {
    const done = document.fullscreenElement ? document.exitFullscreen()
      : document.documentElement.requestFullscreen?.() ?? Promise.reject()
    done.catch(refused)
  }
  const changed = () => { button.textContent = document.fullscreenElement ? "Leave full screen (F)" : "Full screen (F)" }
  const pressed = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return
    if (event.target.closest?.("input, textarea, select, [contenteditable]")) return
    if (event.key.toLowerCase() === "f") toggle()
    // In full screen the browser takes Escape itself, and the page gets no event.
    else if (event.key === "Escape" && !document.fullscreenElement) {
      document.querySelector(`${data.leave} :is(a, button)`)?.click()
    }
  }
  button.onclick = toggle
  document.querySelector('[data-testid="stMain"]')?.scrollTo(0, 0)
  document.addEventListener("keydown", pressed)
  document.addEventListener("fullscreenchange", changed)
  return () => {
    document.removeEventListener("keydown", pressed)
    document.removeEventListener("fullscreenchange", changed)
  }
}
