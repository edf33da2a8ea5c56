/** Sense keys, additional codes and their qualifiers (SPC-3, 4.5.6). */
export const SENSE_NONE = 0
export const NOT_READY = 2
export const MEDIUM_ERROR = 3
export const ILLEGAL_REQUEST = 5
export const UNIT_ATTENTION = 6

export const ASC_UNRECOVERED_READ = 0x11
export const ASC_INVALID_COMMAND = 0x20
export const ASC_LBA_OUT_OF_RANGE = 0x21
export const ASC_INVALID_FIELD = 0x24
export const ASC_MEDIUM_MAY_HAVE_CHANGED = 0x28
export const ASC_NO_MEDIUM = 0x3a
export const ASC_SAVING_UNSUPPORTED = 0x39
export const ASC_REMOVAL_PREVENTED = 0x53

const MMC_PROFILE_NONE = 0x0000
const MMC_PROFILE_CD_ROM = 0x0008
const MMC_PROFILE_DVD_ROM = 0x0010
/** What a CD of 80 minutes holds. */
const CD_MAX_SECTORS = 80 * 60 * 75

/** Answer to INQUIRY (SPC-3, 6.4). */
export function inquiry(vendor: string, product: string, version: string): Uint8Array {
  const data = new Uint8Array(36)
  data.set([0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0])
  const text = vendor.padEnd(8).slice(0, 8) + product.padEnd(16).slice(0, 16)
  const shown = text + version.padEnd(4)
  for (let i = 0; i < 28; i++) data[8 + i] = shown.charCodeAt(i) & 0x7f
  return data
}

/** Answer to REQUEST SENSE in fixed format (SPC-3, 4.5.3). */
export function sense(key: number, code: number, qualifier: number): Uint8Array {
  const data = new Uint8Array(18)
  data[0] = 0x70
  data[2] = key
  data[7] = 10
  data[12] = code
  data[13] = qualifier
  return data
}

/** Answer to READ CAPACITY (MMC-5, 6.24). */
export function capacity(sectors: number): Uint8Array {
  const data = new Uint8Array(8)
  const view = new DataView(data.buffer)
  view.setUint32(0, sectors - 1)
  view.setUint32(4, 2048)
  return data
}

/** A sector's address: four bytes, or minute, second and frame. */
function address(view: DataView, at: number, lba: number, msf: boolean): void {
  if (!msf) {
    view.setUint32(at, lba)
    return
  }
  const frames = lba + 150
  view.setUint8(at, 0)
  view.setUint8(at + 1, Math.min(255, Math.floor(frames / 75 / 60)))
  view.setUint8(at + 2, Math.floor(frames / 75) % 60)
  view.setUint8(at + 3, frames % 75)
}

/** One data track and the lead-out (MMC-5, 6.26.3.2); undefined for a track that there is none of. */
function toc(sectors: number, msf: boolean, startTrack: number): Uint8Array | undefined {
  if (startTrack > 1 && startTrack !== 0xaa) return undefined
  const tracks = startTrack <= 1 ? [1, 0xaa] : [0xaa]
  const data = new Uint8Array(4 + 8 * tracks.length)
  const view = new DataView(data.buffer)
  view.setUint16(0, data.length - 2)
  data.set([1, 1], 2)
  for (const [i, track] of tracks.entries()) {
    data.set([0, 0x14, track, 0], 4 + 8 * i)
    address(view, 8 + 8 * i, track === 1 ? 0 : sectors, msf)
  }
  return data
}

/** The first session (MMC-5, 6.26.3.3). */
function sessions(): Uint8Array {
  return Uint8Array.of(0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0)
}

/** The table of contents as it is in the lead-in (MMC-5, 6.26.3.4). */
function rawToc(sectors: number, msf: boolean): Uint8Array {
  const points = [0xa0, 0xa1, 0xa2, 0x01]
  const data = new Uint8Array(4 + 11 * points.length)
  const view = new DataView(data.buffer)
  view.setUint16(0, data.length - 2)
  data.set([1, 1], 2)
  for (const [i, point] of points.entries()) {
    const at = 4 + 11 * i
    data.set([1, 0x14, 0, point], at)
    if (point === 0xa0 || point === 0xa1) data[at + 8] = 1
    else if (point === 0xa2) address(view, at + 7, sectors, msf)
    else if (msf) data.set([0, 0, 2, 0], at + 7)
  }
  return data
}

/** Answer to READ TOC/PMA/ATIP; undefined for a format or a track that there is none of. */
export function tableOfContents(
  format: number,
  { sectors, msf, startTrack }: { sectors: number; msf: boolean; startTrack: number },
): Uint8Array | undefined {
  if (format === 0) return toc(sectors, msf, startTrack)
  if (format === 1) return sessions()
  return format === 2 ? rawToc(sectors, msf) : undefined
}

/** Answer to GET CONFIGURATION with profiles, core and removable medium features (MMC-5, 6.6). */
export function configuration(sectors: number | undefined): Uint8Array {
  const data = new Uint8Array(8 + 12 + 12 + 8)
  const view = new DataView(data.buffer)
  const profile =
    sectors === undefined
      ? MMC_PROFILE_NONE
      : sectors > CD_MAX_SECTORS
        ? MMC_PROFILE_DVD_ROM
        : MMC_PROFILE_CD_ROM
  view.setUint32(0, data.length - 4)
  view.setUint16(6, profile)
  data.set([0, 0, 0x03, 8], 8)
  view.setUint16(12, MMC_PROFILE_DVD_ROM)
  data[14] = profile === MMC_PROFILE_DVD_ROM ? 1 : 0
  view.setUint16(16, MMC_PROFILE_CD_ROM)
  data[18] = profile === MMC_PROFILE_CD_ROM ? 1 : 0
  // Core, with ATAPI as physical interface.
  data.set([0, 1, 0x0b, 8, 0, 0, 0, 2, 1, 0, 0, 0], 20)
  // A tray that can be locked, and opens and closes.
  data.set([0, 3, 0x03, 4, 0x29, 0, 0, 0], 32)
  return data
}

/** Answer to READ DISC INFORMATION: one finished session with one track (MMC-5, 6.22). */
export function discInformation(): Uint8Array {
  const data = new Uint8Array(34)
  data.set([0, 32, 0x0e, 1, 1, 1, 1, 0x20])
  return data
}

/** A mode page for MODE SENSE (MMC-5, 7); undefined for one that there is none of. */
function modePage(code: number, locked: boolean): Uint8Array | undefined {
  switch (code) {
    case 0x01:
      // Error recovery: read once, no retries reported.
      return Uint8Array.of(0x01, 0x06, 0x00, 0x05, 0, 0, 0, 0)
    case 0x0e:
      // Audio control, immediate, two channels.
      return Uint8Array.of(0x0e, 0x0e, 0x04, 0, 0, 0, 0, 75, 1, 255, 2, 255, 0, 0, 0, 0)
    case 0x2a: {
      const page = new Uint8Array(20)
      const view = new DataView(page.buffer)
      // Reads CD-R, CD-RW and DVD; a tray that can be locked and ejected.
      page.set([0x2a, 0x12, 0x3b, 0x00, 0x70, 0x00, 0x29 | (locked ? 0x02 : 0), 0x00])
      view.setUint16(8, 706)
      view.setUint16(10, 2)
      view.setUint16(12, 512)
      view.setUint16(14, 706)
      return page
    }
    default:
      return undefined
  }
}

/** What MODE SENSE is answered with. */
export interface ModeOptions {
  /** Bytes: 4 for the command of 6 bytes, 8 for that of 10. */
  header: 4 | 8
  mediumType: number
  locked: boolean
  /** Asked for what can be changed, of which there is nothing. */
  changeable: boolean
}

/** Answer to MODE SENSE with one page, or with 0x3f all; undefined for one that there is none of. */
export function modePages(code: number, options: ModeOptions): Uint8Array | undefined {
  const { header, mediumType, locked, changeable } = options
  const codes = code === 0x3f ? [0x01, 0x0e, 0x2a] : [code]
  const pages: Uint8Array[] = []
  for (const one of codes) {
    const page = modePage(one, locked)
    if (page === undefined) return undefined
    pages.push(changeable ? page.fill(0, 2) : page)
  }
  const data = new Uint8Array(header + pages.reduce((sum, { length }) => sum + length, 0))
  if (header === 4) data.set([data.length - 1, mediumType])
  else data.set([(data.length - 2) >> 8, (data.length - 2) & 0xff, mediumType])
  let at: number = header
  for (const page of pages) {
    data.set(page, at)
    at += page.length
  }
  return data
}
