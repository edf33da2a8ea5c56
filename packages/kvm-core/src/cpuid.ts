import type { CpuidEntry } from './api/kvm.ts'

/** u32 words per entry in the arrays that the addon takes and gives. */
const wordsPerEntry = 7

export function cpuidFromWords(words: Uint32Array): CpuidEntry[] {
  const entries: CpuidEntry[] = []
  for (let at = 0; at + wordsPerEntry <= words.length; at += wordsPerEntry) {
    const word = (i: number): number => words[at + i] ?? 0
    entries.push({
      function: word(0),
      index: word(1),
      flags: word(2),
      eax: word(3),
      ebx: word(4),
      ecx: word(5),
      edx: word(6),
    })
  }
  return entries
}

export function cpuidToWords(entries: readonly CpuidEntry[]): Uint32Array {
  return Uint32Array.from(
    entries.flatMap((e) => [e.function, e.index, e.flags, e.eax, e.ebx, e.ecx, e.edx]),
  )
}
