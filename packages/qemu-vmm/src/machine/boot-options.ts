import { readFileSync } from 'node:fs'

import type { FwCfgFile } from '../chipset/fw-cfg.ts'
import { little } from '../chipset/fw-cfg.ts'
import type { Rtc } from '../chipset/rtc.ts'
import { VmmError } from '../errors.ts'

/** What the firmware boots, and how it asks. */
export interface BootOptions {
  /**
   * Letters of the kinds of devices to try, at most three: `a` and `b` floppy disks, `c` hard disks,
   * `d` CDs, `n` the network. Default `cad`.
   */
  order?: string
  /** The order until the machine is reset. */
  once?: string
  /** Whether a key opens a menu. */
  menu?: boolean
  /** Path of a picture, JPEG or BMP with 24 bits per pixel, which the firmware shows. */
  splash?: string
  /** Milliseconds for which the picture or the prompt of the menu is there, 0 to 65535. */
  splashTime?: number
  /** Milliseconds after which a machine with nothing to boot is reset; -1 (the default) for never. */
  rebootTimeout?: number
  /** Only devices with a `bootindex` are tried. */
  strict?: boolean
}

export const DEFAULT_BOOT_ORDER = 'cad'
const MAX_DEVICES = 3
const MAX_MS = 0xffff
/** Codes of the two CMOS bytes, one in each half. */
const CODES: Readonly<Record<string, number>> = { a: 1, b: 1, c: 2, d: 3, n: 4 }
const CMOS_FIRST_TWO = 0x3d
const CMOS_THIRD = 0x38

const JPEG_MAGIC = 0xffd8
const BMP_MAGIC = 0x424d
const BMP_BITS_PER_PIXEL = 28

/** Throws `E_CONFIG` for options that cannot be. */
export function checkBootOptions(options: BootOptions): void {
  for (const key of ['order', 'once'] as const) {
    const letters = options[key]
    if (letters !== undefined) checkOrder(letters)
  }
  checkTime('splash-time', options.splashTime, 0)
  checkTime('reboot-timeout', options.rebootTimeout, -1)
}

function checkOrder(letters: string): void {
  const unknown = [...letters].find((letter) => !(letter in CODES))
  if (unknown !== undefined) {
    throw bad(`Invalid boot device '${unknown}'; there are a, b (floppy), c (disk), d (CD) and n`)
  }
  const twice = [...letters].find((letter, i) => letters.indexOf(letter) !== i)
  if (twice !== undefined) throw bad(`Boot device '${twice}' was given twice`)
  if (letters.length > MAX_DEVICES) {
    throw bad(`Too many boot devices for PC: '${letters}' has ${letters.length} of ${MAX_DEVICES}`)
  }
}

function checkTime(name: string, ms: number | undefined, least: number): void {
  if (ms === undefined || (Number.isInteger(ms) && ms >= least && ms <= MAX_MS)) return
  throw bad(`${name} is invalid, it should be a value between ${least} and ${MAX_MS}, not ${ms}`)
}

/** Puts an order where PC firmware looks for it. */
export function setBootCmos(rtc: Rtc, order: string): void {
  const [first, second, third] = [0, 1, 2].map((i) => CODES[order[i] ?? ''] ?? 0) as [
    number,
    number,
    number,
  ]
  rtc.setCmos(CMOS_FIRST_TWO, (second << 4) | first)
  // The low bit is clear: firmware looks for a signature in a floppy's boot sector.
  rtc.setCmos(CMOS_THIRD, third << 4)
}

/** The files that tell firmware of the options, but for the order of single devices. */
export function bootFiles(options: BootOptions): FwCfgFile[] {
  const { splash, splashTime, rebootTimeout = -1 } = options
  const files = [{ name: 'etc/boot-fail-wait', data: little(rebootTimeout, 4) }]
  if (splashTime !== undefined) {
    files.push({ name: 'etc/boot-menu-wait', data: little(splashTime, 2) })
  }
  if (splash !== undefined) files.push(splashFile(splash))
  return files
}

function splashFile(path: string): FwCfgFile {
  let data: Buffer
  try {
    data = readFileSync(path)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new VmmError('E_FILE', `failed to read splash file '${path}': ${reason}`, {
      fields: { path },
      cause: error,
    })
  }
  const magic = data.length > BMP_BITS_PER_PIXEL + 2 ? data.readUInt16BE(0) : 0
  if (magic === JPEG_MAGIC) return { name: 'bootsplash.jpg', data }
  if (magic === BMP_MAGIC && data.readUInt16LE(BMP_BITS_PER_PIXEL) === 24) {
    return { name: 'bootsplash.bmp', data }
  }
  throw new VmmError(
    'E_CONFIG',
    `splash file '${path}' format not recognized; must be JPEG or 24 bit BMP`,
    { fields: { path } },
  )
}

function bad(message: string): VmmError {
  return new VmmError('E_CONFIG', message)
}
