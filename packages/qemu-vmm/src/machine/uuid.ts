const UUID = /^([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})$/i

/** Whether text is a UUID in its usual form. */
export function isUuid(text: string): boolean {
  return UUID.test(text)
}

/** What a machine without a UUID shows: "not present" (DSP0134, 7.2.1). */
export const NIL_UUID = '00000000-0000-0000-0000-000000000000'

/** SMBIOS stores the first three fields little-endian (DSP0134, 7.2.1). */
export function uuidBytes(text: string): Uint8Array {
  const hex = Buffer.from(text.replaceAll('-', ''), 'hex')
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
  return Uint8Array.from(order, (at) => hex[at] ?? 0)
}
