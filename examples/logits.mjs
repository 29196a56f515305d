// Runs an ONNX model on raw batches: how cifar-export's parity asks ONNX Runtime's JavaScript builds.
//
//     node logits.mjs onnxruntime-node|onnxruntime-web MODEL.onnx
//
// stdin and stdout carry frames: four bytes of length (little endian), then so many bytes. First comes a frame of JSON,
// {"version", "input"}; then each frame of pixels or normalized images in is answered by one of float32 logits.

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
    // a copy: a frame may start anywhere, and float32 wants a multiple of four
    const data = input.type === 'uint8' ? Uint8Array.from(bytes) : new Float32Array(Uint8Array.from(bytes).buffer);
    const batch = data.length / shape.reduce((a, b) => a * b);
    const result = await session.run({ [input.name]: new ort.Tensor(input.type, data, [batch, ...shape]) });
    const logits = result[session.outputNames[0]];
    if (logits.type !== 'float32') throw new Error(`logits are ${logits.type}, not float32`);
    send(Buffer.from(logits.data.buffer, logits.data.byteOffset, logits.data.byteLength));
  }
}

try {
  await main(...process.argv.slice(2));
} catch (error) {
  console.error(`${error.message}`);
  process.exitCode = 1;
}
