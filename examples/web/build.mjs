// Puts everything that the page needs into one folder, which any web server can serve.
//
//     node build.mjs [--models FOLDER] [--out FOLDER]

import { copyFile, mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = dirname(fileURLToPath(import.meta.url));
const PAGE = ['index.html', 'style.css', 'app.js', 'picture.js'];
const RUNTIME = [
  'ort.wasm.bundle.min.mjs',
  'ort-wasm-simd-threaded.wasm',
  'ort.webgpu.bundle.min.mjs',
  'ort-wasm-simd-threaded.asyncify.wasm',
];
const SUFFIX = /-uint8(-float16|-int8)?\.onnx$/; // pixels go in as they are, so the page needs no normalization
const PRECISIONS = ['float32', 'float16', 'int8']; // in the order that the page offers them

/** What the page needs to know of each model, out of the sidecars: onnxruntime-web cannot read a model's metadata. */
async function readModels(folder) {
  const names = (await readdir(folder).catch(() => [])).filter((name) => SUFFIX.test(name));
  const models = await Promise.all(
    names.map(async (file) => {
      const { dataset, model, labels, choices } = JSON.parse(await readFile(join(folder, `${file}.json`), 'utf8'));
      const precision = choices?.precision ?? 'float32';
      const { size: bytes } = await stat(join(folder, file));
      const name = precision === 'float32' ? model : `${model}, ${precision}`;
      return { file, dataset, model, name, labels, precision, bytes };
    }),
  );
  const network = ({ file }) => file.replace(SUFFIX, '');
  const numeric = { numeric: true }; // cifar10 before cifar100
  return models.sort(
    (a, b) =>
      network(a).localeCompare(network(b), 'en', numeric) ||
      PRECISIONS.indexOf(a.precision) - PRECISIONS.indexOf(b.precision),
  );
}

async function copyAll(names, from, to) {
  await mkdir(to, { recursive: true });
  await Promise.all(names.map((name) => copyFile(join(from, name), join(to, name))));
}

async function build({ models: folder, out }) {
  const models = await readModels(folder);
  const samples = (await readdir(join(here, '../samples'))).filter((name) => name.endsWith('.png')).sort();
  await rm(join(out, 'models'), { recursive: true, force: true });
  await copyAll(RUNTIME, join(here, 'node_modules/onnxruntime-web/dist'), join(out, 'ort')).catch((error) => {
    throw new Error(`onnxruntime-web is not installed: run \`npm ci --ignore-scripts\` first (${error.code})`);
  });
  await copyAll(PAGE, here, out);
  await copyAll(samples, join(here, '../samples'), join(out, 'samples'));
  await copyAll(models.map((model) => model.file), folder, join(out, 'models'));
  await writeFile(join(out, 'index.json'), JSON.stringify({ models, samples }));
  console.log(`${out}: ${models.length} model(s), ${samples.length} samples`);
  if (models.length === 0) console.error(`warning: no *-uint8.onnx file in ${folder}; the page will say so`);
}

const { values } = parseArgs({
  options: {
    models: { type: 'string', default: join(here, '../../artifacts/exports') },
    out: { type: 'string', default: join(here, 'dist') },
  },
});
try {
  await build(values);
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
