// Classifies 32x32 PNG pictures with a uint8 ONNX model of cifar-export.
//
//     node classify.mjs MODEL.onnx PICTURE.png... [--repeat N]

import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';

const SIDE = 32;
const USAGE = 'usage: node classify.mjs MODEL.onnx PICTURE.png... [--repeat N]';
// ONNX Runtime keeps a device id and a database of events in the user's cache, unless this is set before its import
process.env.ORT_DISABLE_TELEMETRY ??= '1';

/** A command line that makes no sense: exit code 2. */
class Usage extends Error {}

/** A package that `npm ci` installs, or an error that says so. */
async function load(name) {
  try {
    return (await import(name)).default;
  } catch (error) {
    throw new Error(`${name} is not installed: run \`npm ci --ignore-scripts\` first (${error.code ?? error.message})`);
  }
}

/** The labels: ONNX Runtime's JavaScript API cannot read a model's metadata, so they come from the file beside it. */
async function readLabels(model) {
  try {
    return JSON.parse(await readFile(`${model}.json`, 'utf8')).labels;
  } catch (error) {
    throw new Error(`cannot read the labels beside the model, ${model}.json: ${error.message}`);
  }
}

function decode(PNG, path, bytes) {
  try {
    return PNG.sync.read(bytes);
  } catch (error) {
    throw new Error(`${path} is not a PNG file (${error.message}). Save it as a PNG of 32x32 pixels first.`);
  }
}

/** The command line. */
function parse() {
  try {
    const { values, positionals } = parseArgs({ allowPositionals: true, options: { repeat: { type: 'string' } } });
    if (positionals.length < 2) throw new Usage(USAGE);
    return { values, positionals };
  } catch (error) {
    throw error.code?.startsWith('ERR_PARSE_ARGS') ? new Usage(`${error.message.split('. ')[0]}; ${USAGE}`) : error;
  }
}

/** The pixels of a 32x32 PNG, three bytes (R, G, B) each, then black pictures up to that batch. */
async function readPicture(PNG, path, batch) {
  const { width, height, data } = decode(PNG, path, await readFile(path));
  if (width !== SIDE || height !== SIDE) throw new Error(`${path} is not 32x32. Scale it first.`);
  const pixels = new Uint8Array(batch * SIDE * SIDE * 3);
  pixels.set(data.filter((_, i) => i % 4 !== 3)); // without alpha
  return pixels;
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

async function main() {
  const { values, positionals } = parse();
  const [model, ...pictures] = positionals;
  const [ort, { PNG }] = [await load('onnxruntime-node'), await load('pngjs')];
  const labels = await readLabels(model);
  // one small picture is not worth sharing between threads
  const session = await ort.InferenceSession.create(model, { executionProviders: ['cpu'], intraOpNumThreads: 1 });
  const [input] = session.inputMetadata;
  if (input.type !== 'uint8') throw new Error(`${model} does not take pixels. Export it with --input uint8.`);
  const batch = Number.isInteger(input.shape[0]) ? input.shape[0] : 1; // a number where the file takes that alone

  const times = [];
  for (const path of pictures) {
    const image = new ort.Tensor('uint8', await readPicture(PNG, path, batch), [batch, SIDE, SIDE, 3]);
    let logits;
    for (let i = 0; i < Number(values.repeat ?? 1); i++) {
      const start = performance.now();
      logits = (await session.run({ [input.name]: image }))[session.outputNames[0]].data;
      times.push(performance.now() - start);
    }
    logits = logits.subarray(0, logits.length / batch);
    if (logits.length !== labels.length) throw new Error(`${model}.json has another number of labels than of classes`);
    const order = [...logits.keys()].sort((a, b) => logits[b] - logits[a]).slice(0, 5);
    const probabilities = softmax(logits);
    console.log(path);
    for (const i of order) {
      console.log(`  ${labels[i].padEnd(14)} ${probabilities[i].toFixed(6)}  ${Number(logits[i].toPrecision(9))}`);
    }
  }
  const median = times.sort((a, b) => a - b)[times.length >> 1];
  console.error(`onnxruntime-node ${ort.env.versions.node}, CPU: ${median.toFixed(3)} ms a picture`);
}

try {
  await main();
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = error instanceof Usage ? 2 : 1;
}
