// The chart of accepted and refused events, and the numbers above it, asked for again every two seconds.
"use strict";

const OUTCOMES = {
  accepted: "Accepted",
  limited: "Over the limit",
  dropped: "Held back by clients",
  invalid: "Invalid",
  duplicate: "Sent twice",
  unavailable: "No room",
};
const EVERY = 2000; // milliseconds

const canvas = document.querySelector("canvas[data-chart]");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}

function clock(second) {
  return new Date(second * 1000).toLocaleTimeString([], { hour12: false });
}

function paint(chart) {
  for (const dataset of chart.data.datasets) dataset.backgroundColor = color(dataset.outcome);
  const { x, y } = chart.options.scales;
  x.ticks.color = y.ticks.color = chart.options.plugins.legend.labels.color = color("faint");
  x.grid.color = y.grid.color = color("line");
}

function make() {
  const datasets = Object.entries(OUTCOMES).map(([outcome, label]) => ({ outcome, label, data: [], barPercentage: 1, categoryPercentage: 0.9 }));
  const chart = new Chart(canvas, {
    type: "bar",
    data: { labels: [], datasets },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      plugins: { legend: { position: "bottom", labels: { boxWidth: 10, boxHeight: 10 } } },
      scales: {
        x: { stacked: true, grid: { display: false }, ticks: { maxTicksLimit: 8, maxRotation: 0 } },
        y: { stacked: true, beginAtZero: true, grid: {}, ticks: { precision: 0, maxTicksLimit: 5 } },
      },
    },
  });
  paint(chart);
  dark.addEventListener("change", () => { paint(chart); chart.update(); });
  return chart;
}

async function refresh(chart) {
  const answer = await fetch(canvas.dataset.chart);
  if (!answer.ok) throw new Error(`the numbers were answered with ${answer.status}`);
  const { seconds, slots, totals } = await answer.json();
  chart.data.labels = seconds.map(clock);
  for (const dataset of chart.data.datasets) dataset.data = slots[dataset.outcome];
  chart.update();
  for (const [outcome, total] of Object.entries(totals)) {
    const place = document.querySelector(`[data-total="${outcome}"]`);
    if (place) place.textContent = total.toLocaleString("en");
  }
}

async function run(chart, mark) {
  try {
    await refresh(chart);
    mark.hidden = false;
  } catch {
    mark.hidden = true; // The server is away. It is asked again.
  }
  setTimeout(run, EVERY, chart, mark);
}

if (canvas && window.Chart) {
  canvas.parentElement.hidden = false;
  run(make(), document.querySelector("[data-live-mark]"));
}
