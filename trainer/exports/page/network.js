"use strict";
// The network: its numbers out of the page, and its way from values to outputs.
const network = JSON.parse(document.getElementById("network").textContent);

const floats = (text, half = false) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  if (!half) return new Float32Array(bytes.buffer);
  return Float32Array.from(new Uint16Array(bytes.buffer), (bits) => {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : fraction * 2 ** -24);
  });
};
const layers = network.layers.map(({ W, b, units }) =>
  ({ units, W: floats(W, network.half), b: b ? floats(b, network.half) : new Float32Array(units) }));
const { scale, shift } = network;  // one number, or one for each input

const functions = {
  sigmoid: (z) => 1 / (1 + Math.exp(-z)),
  tanh: Math.tanh,
  relu: (z) => Math.max(z, 0),
  gelu: (z) => z / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * z * (1 + 0.044715 * z * z))),
  scaled_tanh: (z) => 1.7159 * Math.tanh(2 / 3 * z),
};
const softmax = (z) => {
  const most = Math.max(...z), e = z.map((x) => Math.exp(x - most));
  const sum = e.reduce((a, b) => a + b);
  return e.map((x) => x / sum);
};

// Every layer's outputs of unscaled values, the first hidden layer's first.
function propagate(values) {
  let a = Float64Array.from(values, (v, i) => v * scale[i % scale.length] + shift[i % shift.length]);
  return layers.map(({ units, W, b }, l) => {
    const z = Float64Array.from(b);
    a.forEach((x, i) => {
      if (x) for (let j = 0; j < units; j++) z[j] += x * W[i * units + j];
    });
    const isLast = l === layers.length - 1;
    if (isLast && network.output === "softmax") a = softmax(z);
    else a = z.map(functions[isLast ? "sigmoid" : network.activation]);
    return a;
  });
}

// The answer in words and in bars; a server may have a device that answers instead.
const bars = document.getElementById("bars"), answer = document.getElementById("answer");
const rows = network.classes.map((label) => {
  const row = document.createElement(network.backquery?.length ? "button" : "div"), name = document.createElement("span");
  const bar = document.createElement("meter"), number = document.createElement("span");
  if (row.type) row.type = "button";
  name.textContent = label;
  bar.max = 1;
  row.append(name, bar, number);
  bars.append(row);
  return { row, bar, number };
});
const longest = Math.max(...network.classes.map((label) => label.length));
bars.style.setProperty("--label", `${Math.min(longest + 1, 16)}ch`);

function show(outputs) {
  const best = outputs.indexOf(Math.max(...outputs));
  rows.forEach(({ row, bar, number }, k) => {
    bar.value = outputs[k];
    number.textContent = outputs[k].toFixed(3);
    row.classList.toggle("best", k === best);
  });
  // only outputs that add up to 1 are shares
  const sure = network.output === "softmax" ? `${Math.round(100 * outputs[best])} %` : outputs[best].toFixed(3);
  answer.textContent = `${network.classes[best]}, ${sure}`;
}

function clearAnswer(words) {
  rows.forEach(({ row, bar, number }) => {
    bar.value = 0;
    number.textContent = "";
    row.classList.remove("best");
  });
  answer.textContent = words;
}

let asked = 0;
async function respond(values) {
  const turn = ++asked, outputs = propagate(values);
  lightUp(outputs);
  let last = Array.from(outputs.at(-1));
  if (network.ask) {
    const reply = await fetch("answer", {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: Float32Array.from(values),
    });
    if (!reply.ok) return clearAnswer(await reply.text());
    last = await reply.json();
  }
  if (turn === asked) show(last);
}
