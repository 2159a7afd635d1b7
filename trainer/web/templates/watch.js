"use strict";
// Shows the moments of a training as they come, and any of them again.
const byId = (id) => document.getElementById(id);
const frames = [];
const REST = 1000; // milliseconds between two drawings of what comes: the training needs the cores
let about = null, shown = -1, player = null;

const unpacked = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function paint(canvas, grey) {
  const [height, width] = about.shape, context = canvas.getContext("2d");
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  // opaque greys, a number a pixel: every machine with a browser has the lowest byte first
  for (let i = 0; i < pixels.length; i++) pixels[i] = 0xff000000 + (255 - grey[i]) * 0x010101;
  context.putImageData(image, 0, 0);
}

// Pictures in a row, each with its words; those of before are painted anew.
function row(id, pictures, words) {
  const parent = byId(id);
  while (parent.children.length > pictures.length) parent.lastChild.remove();
  pictures.forEach((picture, i) => {
    if (!parent.children[i]) {
      const figure = document.createElement("figure");
      figure.append(document.createElement("canvas"), document.createElement("figcaption"));
      parent.append(figure);
    }
    const [canvas, caption] = parent.children[i].children;
    paint(canvas, picture);
    if (caption.title === words[i]) return; // a text that is set anew is laid out anew
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", words[i]);
    caption.textContent = words[i];
    caption.title = words[i];
  });
}

function images(text) {
  const bytes = unpacked(text), size = about.shape[0] * about.shape[1];
  return Array.from({ length: bytes.length / size }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}

function curve(id, points, at) {
  const canvas = byId(id), context = canvas.getContext("2d"), { width, height } = canvas;
  const colour = getComputedStyle(document.body).color;
  context.clearRect(0, 0, width, height);
  if (!points.length) return;
  const xs = frames.map((frame) => frame.epoch), ys = points.map((point) => point[1]);
  const [left, right] = [Math.min(0, ...xs), Math.max(...xs)];
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const place = ([x, y]) => [
    64 + (width - 84) * (x - left) / (right - left || 1),
    height - 28 - (height - 48) * (high > low ? (y - low) / (high - low) : 0.5),
  ];
  context.strokeStyle = context.fillStyle = colour;
  context.font = "15px system-ui, sans-serif";
  context.lineWidth = 1;
  context.fillText(high.toPrecision(4), 4, 24);
  context.fillText(low.toPrecision(4), 4, height - 24);
  context.fillText(right.toPrecision(3), width - 44, height - 6);
  context.strokeStyle = "#0072b2";
  context.lineWidth = 3;
  context.beginPath();
  points.forEach((point) => context.lineTo(...place(point)));
  context.stroke();
  const now = points.findLast((point) => point[0] <= at);
  if (!now) return;
  context.fillStyle = "#d55e00";
  context.beginPath();
  context.arc(...place(now), 6, 0, 7);
  context.fill();
}

function show(index) {
  const frame = frames[index];
  if (!frame) return;
  shown = index;
  byId("time").value = index;
  const known = frames.slice(0, index + 1).findLast((other) => other.accuracy !== null);
  const right = known ? `, ${(100 * known.accuracy).toFixed(2)} % of the test samples right` : "";
  byId("stands").textContent = `epoch ${frame.epoch.toFixed(2)}: loss ${frame.loss.toPrecision(4)}${right}`;
  byId("time").setAttribute("aria-valuetext", byId("stands").textContent);
  curve("loss", frames.map((f) => [f.epoch, f.loss]), frame.epoch);
  const tested = frames.filter((f) => f.accuracy !== null);
  curve("accuracy", tested.map((f) => [f.epoch, 100 * f.accuracy]), frame.epoch);
  if (!frame.units) return;
  byId("pictures").hidden = false;
  byId("units-name").textContent = `Hidden units, the first ${about.units} of ${about.of}`;
  row("units", images(frame.units), Array.from({ length: about.units }, (_, i) => String(i)));
  if (frame.backquery) row("backquery", images(frame.backquery), about.classes);
  byId("wrong").textContent = `${frame.wrong} test samples are answered wrongly; the first of them:`;
  row("mistakes", frame.mistakes.map((m) => unpacked(m.image)),
    frame.mistakes.map((m) => `${about.classes[m.label]} as ${about.classes[m.answer]}`));
}

function play(isOn) {
  clearInterval(player);
  player = null;
  byId("play").textContent = isOn ? "Pause" : "Play";
  if (!isOn) return;
  byId("follow").checked = false;
  if (shown >= frames.length - 1) show(0);
  player = setInterval(() => (shown < frames.length - 1 ? show(shown + 1) : play(false)), 150);
}

byId("play").addEventListener("click", () => play(!player));
byId("time").addEventListener("input", (event) => {
  byId("follow").checked = false;
  show(Number(event.target.value));
});
byId("follow").addEventListener("change", () => { if (byId("follow").checked) show(frames.length - 1); });

const source = new EventSource("events");
let isWaiting = false, last = -REST;
source.addEventListener("start", (event) => {
  frames.length = 0;
  about = JSON.parse(event.data);
});
source.addEventListener("frame", (event) => {
  frames.push(JSON.parse(event.data));
  if (isWaiting) return;
  isWaiting = true;
  // a page that nobody looks at is given no animation frame, and draws nothing
  setTimeout(() => requestAnimationFrame(() => {
    isWaiting = false;
    last = performance.now();
    byId("time").max = frames.length - 1;
    show(byId("follow").checked ? frames.length - 1 : shown);
  }), Math.max(0, last + REST - performance.now()));
});
