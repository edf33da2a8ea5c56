/** What the writer that gets killed writes in each round. */

export const SECTORS = 4096

/** Eight places, different ones each round. */
export function sectorsOf(round: number): number[] {
  return Array.from({ length: 8 }, (_, i) => (round * 7919 + i * 104_729) % SECTORS)
}

export function sectorBytes(sector: number, round: number): Uint8Array {
  return new Uint8Array(new Uint32Array(1024).fill(round * SECTORS + sector).buffer)
}
