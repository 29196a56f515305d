// Any picture as the 32×32 RGB pixels that the networks were trained on, computed as `cifar-export predict` does:
// composited on white, the largest square in the middle, averaged down (the arithmetic of Pillow's BOX filter).

export const SIDE = 32;

/** Decode an image file; returns uint8 RGB pixels, SIDE × SIDE × 3, row by row. */
export async function readPicture(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: 'none', imageOrientation: 'from-image' });
  const side = Math.min(bitmap.width, bitmap.height);
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext('2d', { alpha: false, willReadFrequently: true });
  context.fillStyle = '#fff';
  context.fillRect(0, 0, side, side);
  context.drawImage(bitmap, -Math.floor((bitmap.width - side) / 2), -Math.floor((bitmap.height - side) / 2));
  bitmap.close();
  if (side < SIDE) return enlarge(canvas);
  return reduce(context.getImageData(0, 0, side, side).data, side);
}

/** Average `rgba` (side × side × 4) down to SIDE × SIDE × 3: first along the rows, then along the columns. */
export function reduce(rgba, side) {
  const ranges = boxes(side);
  const rows = new Uint8Array(side * SIDE * 3);
  for (let y = 0; y < side; y++) {
    ranges.forEach(([first, last], x) => {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let i = first; i < last; i++) sum += rgba[(y * side + i) * 4 + c];
        rows[(y * SIDE + x) * 3 + c] = Math.floor(sum / (last - first) + 0.5);
      }
    });
  }
  const pixels = new Uint8Array(SIDE * SIDE * 3);
  ranges.forEach(([first, last], y) => {
    for (let i = 0; i < SIDE * 3; i++) {
      let sum = 0;
      for (let row = first; row < last; row++) sum += rows[row * SIDE * 3 + i];
      pixels[y * SIDE * 3 + i] = Math.floor(sum / (last - first) + 0.5);
    }
  });
  return pixels;
}

/** For each of the SIDE new pixels the range [first, last) of old ones whose middles lie in it. */
function boxes(side) {
  const scale = side / SIDE;
  return Array.from({ length: SIDE }, (_, i) => [Math.floor(i * scale + 0.5), Math.floor((i + 1) * scale + 0.5)]);
}

/** Smaller pictures are left to the browser's smoothing. */
function enlarge(source) {
  const context = new OffscreenCanvas(SIDE, SIDE).getContext('2d', { alpha: false });
  context.drawImage(source, 0, 0, SIDE, SIDE);
  return Uint8Array.from(context.getImageData(0, 0, SIDE, SIDE).data.filter((_, i) => i % 4 !== 3));
}
