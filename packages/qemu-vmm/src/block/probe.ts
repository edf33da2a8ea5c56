/** Formats that a file's first bytes may name. Those that are not supported are told apart from raw. */
const MAGICS: readonly (readonly [name: string, bytes: string])[] = [
  ['qcow2', 'QFI\xfb'],
  ['qed', 'QED\0'],
  ['vmdk', 'KDMV'],
  ['vmdk', 'COWD'],
  ['vhdx', 'vhdxfile'],
  ['vpc', 'conectix'],
  ['parallels', 'WithoutFreeSpace'],
  ['parallels', 'WithouFreSpacExt'],
  ['bochs', 'Bochs Virtual HD Image'],
  ['luks', 'LUKS\xba\xbe'],
]

/** The name of the format that a file begins like; `raw` when like none, `qcow` for its first version. */
export function probeBytes(head: Uint8Array): string {
  const text = Buffer.from(head.buffer, head.byteOffset, head.byteLength).toString('latin1', 0, 80)
  for (const [name, magic] of MAGICS) {
    if (!text.startsWith(magic)) continue
    if (name === 'qcow2' && text.startsWith('\0\0\0\x01', 4)) return 'qcow'
    return name
  }
  if (text.startsWith('\x7f\x10\xda\xbe', 64)) return 'vdi'
  return 'raw'
}
