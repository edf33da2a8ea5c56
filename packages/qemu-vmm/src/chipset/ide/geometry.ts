/** Cylinders, heads, and sectors of a track. */
export interface Geometry {
  cylinders: number
  heads: number
  sectors: number
}

/** What a disk of this many sectors says it has, as QEMU guesses it. */
export function guessGeometry(sectors: number): Geometry {
  const cylinders = Math.floor(sectors / (16 * 63))
  return { cylinders: Math.min(Math.max(cylinders, 2), 16_383), heads: 16, sectors: 63 }
}

/** Translation that firmware is to use: 0 for none, 2 for that of LBA. */
export function translation({ cylinders, heads, sectors }: Geometry): 0 | 2 {
  return cylinders <= 1024 && heads <= 16 && sectors <= 63 ? 0 : 2
}
