import type { CpuInfo } from '../machine/config.ts'
import { MonitorError } from './command.ts'
import type { MonitorCommand, MonitorContext } from './command.ts'

const MAX_BYTES = 1 << 20
const ADDRESS_DIGITS = 16
const SIZES: Readonly<Record<string, number>> = { b: 1, h: 2, w: 4, g: 8 }
const FORMATS = 'xduoc'
/** Registers by their places in `kvm_regs`. */
const REGISTERS = (
  'rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags' as const
).split(' ')

interface Format {
  count: number
  letter: string
  size: number
}

/** Commands that show guest memory. */
export const MEMORY_COMMANDS: readonly MonitorCommand[] = [
  {
    name: 'print',
    alias: 'p',
    params: '/fmt expr',
    help: 'show a sum of numbers and registers of the first processor, in format fmt: x d u o or c',
    maxArgs: 2,
    run: printValue,
  },
  {
    name: 'x',
    params: '/fmt addr',
    help: 'show memory at a virtual address of the first processor, in format fmt',
    maxArgs: 2,
    run: (context, args) => dump(context, args, 'x'),
  },
  {
    name: 'xp',
    params: '/fmt addr',
    help: 'show memory at a physical address, in format fmt: a count, x d u o or c, and b h w or g',
    maxArgs: 2,
    run: (context, args) => dump(context, args, 'xp'),
  },
]

/** Letters of formats may stand at the command's name, with or without a space. */
async function printValue({ machine }: MonitorContext, args: readonly string[]): Promise<string> {
  const hasFormat = args[0]?.startsWith('/') === true
  const letters = hasFormat ? args[0]!.slice(1) : 'x'
  const text = args[hasFormat ? 1 : 0]
  if (!/^[xduoc]?$/.test(letters)) {
    throw new MonitorError(
      `invalid char in format: '${letters}'\nTry "help print" for more information`,
    )
  }
  if (text === undefined) {
    throw new MonitorError('unexpected end of expression\nTry "help print" for more information')
  }
  const value = addressOf(text, text.includes('$') ? await machine.cpus() : [])
  switch (letters) {
    case 'd':
      return `${BigInt.asIntN(64, value)}\n`
    case 'u':
      return `${value}\n`
    case 'o':
      return `${value === 0n ? '' : '0'}${value.toString(8)}\n`
    case 'c':
      return `${character(Number(BigInt.asUintN(8, value)))}\n`
    default:
      return `0x${value.toString(16)}\n`
  }
}

async function dump(
  { machine }: MonitorContext,
  args: readonly string[],
  name: 'x' | 'xp',
): Promise<string> {
  const [first = ''] = args
  const hasFormat = first.startsWith('/')
  const format = readFormat(hasFormat ? first.slice(1) : '', name)
  const text = args[hasFormat ? 1 : 0]
  if (text === undefined) {
    throw new MonitorError(`unexpected end of expression\nTry "help ${name}" for more information`)
  }
  const start = addressOf(text, text.includes('$') ? await machine.cpus() : [])
  const call = name === 'x' ? 'readVirtual' : 'readPhysical'
  const lineBytes = format.size === 1 ? 8 : 16
  let shown = ''
  for (let rest = format.count * format.size, at = start; rest > 0;) {
    const length = Math.min(rest, lineBytes)
    const bytes = await machine.manage(call, at, length)
    const head = `${at.toString(16).padStart(ADDRESS_DIGITS, '0')}:`
    if (bytes === undefined) return `${shown}${head} Cannot access memory\n`
    shown += `${head}${values(bytes, format)}\n`
    at = BigInt.asUintN(64, at + BigInt(length))
    rest -= length
  }
  return shown
}

function readFormat(text: string, name: string): Format {
  const [, count = '', letters = ''] = /^(\d*)(.*)$/.exec(text) ?? []
  const format: Format = { count: count === '' ? 1 : Number(count), letter: 'x', size: 4 }
  let isSized = false
  for (const letter of letters) {
    if (FORMATS.includes(letter)) format.letter = letter
    else if (letter === 'i') {
      throw new MonitorError('there is no disassembler: show the bytes with /xb')
    } else if (SIZES[letter] !== undefined) {
      format.size = SIZES[letter]
      isSized = true
    } else {
      throw new MonitorError(
        `invalid char in format: '${letter}'\nTry "help ${name}" for more information`,
      )
    }
  }
  // Characters have a byte each.
  if (format.letter === 'c' && !isSized) format.size = 1
  if (format.letter === 'c' && format.size !== 1)
    throw new MonitorError('characters are bytes: /cb')
  if (format.count * format.size > MAX_BYTES) {
    throw new MonitorError(`${text} is more than ${MAX_BYTES} bytes; show them in parts`)
  }
  return format
}

/** A sum of numbers and registers. */
function addressOf(text: string, cpus: readonly CpuInfo[]): bigint {
  const terms = [...text.matchAll(/([+-]?)([^+-]+)/g)]
  if (terms.map(([term]) => term).join('') !== text)
    throw new MonitorError(`invalid address '${text}'`)
  const sum = terms.reduce((total, [, sign, term = '']) => {
    const value = term.startsWith('$') ? register(term, cpus) : number(term)
    return sign === '-' ? total - value : total + value
  }, 0n)
  return BigInt.asUintN(64, sum)
}

function number(text: string): bigint {
  if (/^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text)) {
    const isOctal = /^0[0-7]+$/.test(text)
    return BigInt(isOctal ? `0o${text.slice(1)}` : text)
  }
  throw new MonitorError(`invalid char '${text.charAt(0)}' in expression`)
}

function register(name: string, [cpu]: readonly CpuInfo[]): bigint {
  const key = name.slice(1).toLowerCase()
  const wide = key === 'pc' ? 'rip' : key.replace(/^e/, 'r')
  const value = cpu?.regs[REGISTERS.indexOf(wide)]
  if (value === undefined) throw new MonitorError('unknown register')
  return key.startsWith('e') ? BigInt.asUintN(32, value) : value
}

function values(bytes: Uint8Array, { letter, size }: Format): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  let text = ''
  for (let at = 0; at < bytes.length; at += size)
    text += ` ${shown(valueAt(view, at, size), letter, size)}`
  return text
}

function valueAt(view: DataView, at: number, size: number): bigint {
  if (size === 1) return BigInt(view.getUint8(at))
  if (size === 2) return BigInt(view.getUint16(at, true))
  return size === 4 ? BigInt(view.getUint32(at, true)) : view.getBigUint64(at, true)
}

function shown(value: bigint, letter: string, size: number): string {
  const bits = size * 8
  switch (letter) {
    case 'x':
      return `0x${value.toString(16).padStart(bits / 4, '0')}`
    case 'o':
      return (value === 0n ? '0' : `0${value.toString(8)}`).padStart(Math.ceil(bits / 3))
    case 'c':
      return character(Number(value))
    default: {
      const decimal = letter === 'd' ? BigInt.asIntN(64, value) : value
      return decimal.toString().padStart(Math.ceil((bits * 10) / 33))
    }
  }
}

function character(code: number): string {
  const special: Readonly<Record<number, string>> = { 10: '\\n', 13: '\\r', 39: "\\'", 92: '\\\\' }
  const isPlain = code >= 0x20 && code <= 0x7e
  const plain = isPlain ? String.fromCharCode(code) : `\\x${code.toString(16).padStart(2, '0')}`
  return `'${special[code] ?? plain}'`
}
