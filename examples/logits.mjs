// Runs an ONNX model on raw batches: how cifar-export's parity asks ONNX Runtime's JavaScript builds.
//
//     node logits.mjs onnxruntime-node|onnxruntime-web MODEL.onnx
//
// stdin and stdout carry frames: four bytes of length (little endian), then so many bytes. First comes a frame of JSON,
// {"version", "input"}; then each frame of images in, of the type and layout that the model takes, is answered by one of
// float32 logits.

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

process.env.ORT_DISABLE_TELEMETRY ??= '1'; // before ONNX Runtime is imported
const FOLDERS = { 'onnxruntime-node': 'node', 'onnxruntime-web': 'web' };

function send(bytes) {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.byteLength);
  process.stdout.write(length);
  process.stdout.write(bytes);
}

async function* frames(stream) {
  let waiting = Buffer.alloc(0);
  for await (const chunk of stream) {
    waiting = Buffer.concat([waiting, chunk]);
    while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32LE(0)) {
      const end = 4 + waiting.readUInt32LE(0);
      yield waiting.subarray(4, end);
      waiting = waiting.subarray(end);
    }
  }
}

// Bytes as what ONNX Runtime takes for that type: of a copy, because a frame may start anywhere in memory.
function numbers(type, bytes) {
  const copy = Uint8Array.from(bytes);
  if (type === 'uint8') return copy;
  const Halves = globalThis.Float16Array ?? Uint16Array; // older versions of Node.js have the bits alone
  return type === 'float16' ? new Halves(copy.buffer) : new Float32Array(copy.buffer);
}

// float16 logits as float32 ones; bits are a sign, five of exponent, ten of fraction (IEEE 754, binary16).
function widened({ type, data }) {
  if (type !== 'float16') return data;
  if (!(data instanceof Uint16Array)) return Float32Array.from(data);
  return Float32Array.from(data, (bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24);
  });
}

async function main(name, path) {
  if (!(name in FOLDERS) || !path) throw new Error('usage: node logits.mjs onnxruntime-node|onnxruntime-web MODEL.onnx');
  const require = createRequire(new URL(`${FOLDERS[name]}/package.json`, import.meta.url));
  const ort = require(name);
  const provider = name === 'onnxruntime-node' ? 'cpu' : 'wasm';
  if (provider === 'wasm') ort.env.wasm.numThreads = 1; // more would start workers, which outlive the last answer
  const model = await readFile(path);
  const options = { executionProviders: [provider], logSeverityLevel: 4 };
  const threads = Number(process.env.OMP_NUM_THREADS); // as the other runtimes of cifar-export take it
  if (provider === 'cpu' && Number.isInteger(threads) && threads > 0) options.intraOpNumThreads = threads;
  const session = await ort.InferenceSession.create(model, options);
  const [input] = session.inputMetadata;
  const shape = input.shape.slice(1); // after the batch
  send(Buffer.from(JSON.stringify({ version: ort.env.versions.common, provider, input: input.type })));
  for await (const bytes of frames(process.stdin)) {
    const data = numbers(input.type, bytes);
    const batch = data.length / shape.reduce((a, b) => a * b);
    const result = await session.run({ [input.name]: new ort.Tensor(input.type, data, [batch, ...shape]) });
    const logits = result[session.outputNames[0]];
    if (!['float32', 'float16'].includes(logits.type)) throw new Error(`logits are ${logits.type}, not float32`);
    const wide = widened(logits);
    send(Buffer.from(wide.buffer, wide.byteOffset, wide.byteLength));
  }
}

try {
  await main(...process.argv.slice(2));
} catch (error) {
  console.error(`${error.message}`);
  process.exitCode = 1;
}
