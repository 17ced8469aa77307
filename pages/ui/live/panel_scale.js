// Pure functions of the charts: smoothing, ticks and colours.

const SPANS = [0, 2, 5, 10, 20, 50, 100, 200, 500, 1000] // steps of smoothing, by slider
const DEFAULT_SPAN = { most: 20, share: 1 / 20 } // default smoothing: share of the run, at most so many steps

// An exponential average with a time constant in steps. Points may be unevenly spaced: each
// weighs 1 − exp(−steps since the last ÷ span).
function smooth(step, values, span) {
  if (!(span > 0)) return values
  let average = NaN
  let last = step[0]
  return values.map((value, i) => {
    average = Number.isNaN(average)
      ? value
      : average + (1 - Math.exp((last - step[i]) / span)) * (value - average)
    last = step[i]
    return average
  })
}

// Default steps of smoothing for a run of this length; more would delay the curve of a short run.
function defaultSpan(steps) {
  return Math.max(1, Math.min(DEFAULT_SPAN.most, Math.floor(DEFAULT_SPAN.share * steps)))
}

// Number of ticks to request on a logarithmic axis. Plotly labels by decades ÷ ticks: above 0.7
// only powers of ten, above 0.3 also their doubles and fives, below that every digit.
function logTicks(values) {
  let [lo, hi] = [Infinity, 0]
  for (const value of values) {
    if (!(value > 0 && value < Infinity)) continue
    if (value < lo) lo = value
    if (value > hi) hi = value
  }
  const decades = hi ? 1.1 * Math.log10(hi / lo) : 0 // with the margin that plotly leaves
  return decades > 2.9 ? 4 : Math.max(3, Math.round(decades / 0.45))
}

function faded(colour, alpha) { // plotly reads neither CSS variables nor color-mix()
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16))
  return Number.isNaN(r + g + b) ? colour : `rgba(${r},${g},${b},${alpha})`
}

// Scale the type and the lines in a chart's definition, for a large screen.
function enlarge(part, by) {
  for (const [key, value] of Object.entries(part)) {
    if (!value || typeof value !== "object") continue
    const scaled = key.endsWith("font") ? "size" : key === "line" ? "width" : null
    if (scaled && value[scaled]) value[scaled] *= by
    enlarge(value, by)
  }
}
