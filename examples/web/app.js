// The page: choose a network and a picture, see what the network makes of it. Everything runs here, in the browser.

import { SIDE, readPicture } from './picture.js';

const TOP = 5;
const RUNS = 5; // the time shown is the median of so many,
const ENOUGH_MS = 500; // or of fewer, where they take long
const BUNDLES = { wasm: './ort/ort.wasm.bundle.min.mjs', webgpu: './ort/ort.webgpu.bundle.min.mjs' };
const EXPORT = 'Run `cifar-export onnx resnet20 --input uint8`, then `npm run build` again.';

const element = (id) => document.getElementById(id);
const [dataset, network, backend] = ['dataset', 'network', 'backend'].map(element);
const sessions = new Map(); // of promises, by backend and file
let models = [];
let pixels = null; // of the picture chosen last
let latest = 0; // number of the last request: what an older one brings is dropped

/** Tell the state to people, and to whoever drives the page. */
function show(state, text, problem = '') {
  document.documentElement.dataset.state = state;
  element('status').textContent = text;
  element('message').textContent = problem;
  element('message').hidden = problem === '';
}

async function fetchFile(path) {
  const response = await fetch(path).catch(() => null);
  if (!response?.ok) throw new Error(`${path} is missing on this server. ${EXPORT}`);
  return response;
}

function fill(select, names) {
  const before = select.value;
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  if (names.includes(before)) select.value = before;
  select.disabled = false;
}

function fillNetworks() {
  fill(network, models.filter((model) => model.dataset === dataset.value).map((model) => model.name));
}

const chosen = () => models.find((model) => model.dataset === dataset.value && model.name === network.value);

async function openSession(where, model) {
  const ort = await import(BUNDLES[where]);
  ort.env.wasm.numThreads = 1; // more would need cross-origin isolation, and one small picture does not gain from it
  ort.env.logLevel = 'error';
  const bytes = new Uint8Array(await (await fetchFile(`models/${model.file}`)).arrayBuffer());
  const session = await ort.InferenceSession.create(bytes, { executionProviders: [where] });
  const [{ shape }] = session.inputMetadata;
  const batch = Number.isInteger(shape[0]) ? shape[0] : 1; // a number where the file takes that alone
  const run = async (image) => {
    const images = new Uint8Array(batch * SIDE * SIDE * 3);
    images.set(image); // the others are black
    const feeds = { image: new ort.Tensor('uint8', images, [batch, SIDE, SIDE, 3]) };
    const logits = await (await session.run(feeds)).logits.getData();
    return logits.subarray(0, logits.length / batch);
  };
  await run(new Uint8Array(SIDE * SIDE * 3)); // the first run is not the one to be timed
  return run;
}

function sessionFor(where, model) {
  const key = `${where} ${model.file}`;
  if (!sessions.has(key)) {
    const opening = openSession(where, model);
    opening.catch(() => sessions.delete(key)); // so that it can be tried again
    sessions.set(key, opening);
  }
  return sessions.get(key);
}

async function classify() {
  const request = ++latest;
  const model = chosen();
  if (!model || !pixels) return;
  const where = backend.value;
  show('busy', `Running ${model.name}…`);
  try {
    const run = await sessionFor(where, model);
    const times = [];
    let logits;
    for (const begin = performance.now(); times.length < RUNS && performance.now() - begin < ENOUGH_MS; ) {
      const start = performance.now();
      logits = await run(pixels);
      times.push(performance.now() - start);
    }
    if (request !== latest) return;
    if (logits.length !== model.labels.length) throw new Error(`${model.file}: not as many labels as classes`);
    showTop(model, logits);
    const time = times.sort((a, b) => a - b)[times.length >> 1];
    const size = `${Math.round(model.bytes / 1000)} kB`;
    element('time').textContent = `${time.toFixed(1)} ms per inference on ${backend.selectedOptions[0].text}, ${size}`;
    element('time').dataset.ms = time;
  } catch (error) {
    if (request === latest) fail(error);
  }
}

function showTop(model, logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  const order = [...powers.keys()].sort((a, b) => logits[b] - logits[a]).slice(0, TOP);
  element('top').replaceChildren(
    ...order.map((i) => {
      const row = document.createElement('li');
      const [label, percent, bar, fill] = ['span', 'span', 'div', 'i'].map((tag) => document.createElement(tag));
      label.textContent = model.labels[i].replaceAll('_', ' ');
      percent.textContent = `${((100 * powers[i]) / sum).toFixed(1)} %`;
      percent.className = 'percent';
      bar.className = 'bar';
      fill.style.width = percent.textContent.replace(' ', '');
      bar.append(fill);
      Object.assign(row.dataset, { label: model.labels[i], logit: logits[i] });
      row.append(label, percent, bar);
      return row;
    }),
  );
  show('done', `${model.name} (${model.dataset}) says:`);
  element('top').scrollIntoView({ block: 'nearest' }); // on a phone it may lie below the fold
}

function fail(error) {
  element('top').replaceChildren();
  element('time').textContent = '';
  show('error', 'No result.', error.message);
}

/** Read the picture that `load` brings, show it as the network sees it, and classify it. */
async function take(name, load, sample = null) {
  const request = ++latest;
  for (const button of element('samples').children) button.setAttribute('aria-pressed', button === sample);
  show('busy', 'Reading the picture…');
  try {
    const blob = await load();
    const read = await readPicture(blob).catch(() => {
      throw new Error(`${name} is no picture that this browser can read.`);
    });
    if (request !== latest) return;
    pixels = read;
  } catch (error) {
    if (request === latest) fail(error);
    return;
  }
  const image = new ImageData(SIDE, SIDE);
  for (let i = 0; i < SIDE * SIDE; i++) image.data.set([...pixels.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  element('seen').getContext('2d').putImageData(image, 0, 0);
  element('seen').setAttribute('aria-label', `${name}, reduced to 32×32`);
  if (chosen()) await classify();
  else show('error', 'No result.', `There is no model here. ${EXPORT}`);
}

function addSamples(files) {
  for (const file of files) {
    const name = file.replace(/\.\w+$/, '');
    const button = document.createElement('button');
    const image = new Image();
    Object.assign(image, { src: `samples/${file}`, alt: name });
    Object.assign(button, { type: 'button', title: name });
    button.setAttribute('aria-pressed', 'false');
    button.append(image);
    button.addEventListener('click', () =>
      take(name, async () => (await fetchFile(`samples/${file}`)).blob(), button),
    );
    element('samples').append(button);
  }
}

function listen() {
  dataset.addEventListener('change', () => {
    fillNetworks();
    classify();
  });
  network.addEventListener('change', classify);
  backend.addEventListener('change', classify);
  const takeFile = (file) => file && take(file.name, async () => file);
  element('file').addEventListener('change', (event) => takeFile(event.target.files[0]));
  const drop = element('drop');
  addEventListener('dragover', (event) => event.preventDefault()); // a picture dropped beside the box must not
  addEventListener('drop', (event) => event.preventDefault()); //     replace the page
  for (const type of ['dragenter', 'dragover']) drop.addEventListener(type, () => drop.classList.add('over'));
  for (const type of ['dragleave', 'drop']) drop.addEventListener(type, () => drop.classList.remove('over'));
  drop.addEventListener('drop', (event) => takeFile(event.dataTransfer.files[0]));
}

async function offerWebGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  if (adapter) backend.add(new Option('WebGPU', 'webgpu'));
}

async function start() {
  listen();
  const index = await (await fetchFile('index.json')).json();
  addSamples(index.samples);
  models = index.models;
  if (models.length === 0) throw new Error(`There is no model here. ${EXPORT}`);
  fill(dataset, [...new Set(models.map((model) => model.dataset))]);
  fillNetworks();
  backend.disabled = false;
  await offerWebGpu();
  show('ready', 'Choose a picture.');
}

start().catch(fail);
