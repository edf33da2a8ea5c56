// Captures in the format of libpcap, and what is wrong with their frames.
import { spawnSync } from 'node:child_process'
import { must } from './disk.ts'

const FILE_HEADER = 24
const FRAME_HEADER = 16
const IPV4 = 0x0800
const TCP = 6
const UDP = 17

/** Whether Wireshark's command is there. */
export const hasTshark: boolean = spawnSync('tshark', ['--version']).status === 0

/** Lines about frames that Wireshark calls malformed, or whose checksums it finds wrong. */
export function malformed(file: string): string[] {
  const check = ['ip', 'tcp', 'udp'].flatMap((name) => ['-o', `${name}.check_checksum:TRUE`])
  const bad = ['ip', 'tcp', 'udp'].map((name) => `${name}.checksum.status == "Bad"`)
  const filter = ['_ws.malformed', ...bad].join(' || ')
  const text = must('tshark', ['-n', '-r', file, ...check, '-Y', filter])
  return text.split('\n').filter((line) => /^ *\d+ /.test(line))
}

/** What is in a capture. */
export interface Capture {
  frames: number
  tcp: number
  /** What is wrong with frames, by their numbers. */
  faults: string[]
}

/** Looks at lengths and checksums of all frames; the capture must have all of each. */
export function readCapture(bytes: Buffer): Capture {
  const capture: Capture = { frames: 0, tcp: 0, faults: [] }
  if (bytes.readUInt32LE(0) !== 0xa1b2_c3d4) throw new Error('this is no capture')
  for (let at = FILE_HEADER; at < bytes.length;) {
    const length = bytes.readUInt32LE(at + 8)
    const frame = bytes.subarray(at + FRAME_HEADER, at + FRAME_HEADER + length)
    capture.frames++
    const fault = frame.length < length ? 'it is cut off' : frameFault(frame)
    if (fault !== undefined) capture.faults.push(`frame ${capture.frames}: ${fault}`)
    if (frame.length > 34 && frame.readUInt16BE(12) === IPV4 && frame[23] === TCP) capture.tcp++
    at += FRAME_HEADER + length
  }
  return capture
}

function frameFault(frame: Buffer): string | undefined {
  if (frame.length < 14) return 'it has no Ethernet header'
  if (frame.readUInt16BE(12) !== IPV4) return undefined
  const packet = frame.subarray(14)
  const header = (packet[0]! & 15) * 4
  if (packet[0]! >> 4 !== 4 || header < 20) return 'its IPv4 header is none'
  const length = packet.readUInt16BE(2)
  if (length > packet.length || length < header) return `its length is ${length}`
  if (sum(packet.subarray(0, header)) !== 0xffff) return "its header's checksum is wrong"
  const protocol = packet[9]!
  const isPart = (packet.readUInt16BE(6) & 0x3fff) !== 0
  if ((protocol !== TCP && protocol !== UDP) || isPart) return undefined
  const segment = packet.subarray(header, length)
  if (protocol === UDP && segment.readUInt16BE(6) === 0) return undefined
  const pseudo = Buffer.alloc(12)
  packet.copy(pseudo, 0, 12, 20)
  pseudo.writeUInt16BE(protocol, 8)
  pseudo.writeUInt16BE(segment.length, 10)
  return sum(pseudo, segment) === 0xffff ? undefined : 'its checksum is wrong'
}

/** The Internet checksum's sum (RFC 1071) of parts, all but the last of an even length. */
function sum(...parts: readonly Buffer[]): number {
  let total = 0
  for (const part of parts) {
    for (let i = 0; i + 1 < part.length; i += 2) total += part.readUInt16BE(i)
    if (part.length % 2 === 1) total += part[part.length - 1]! << 8
  }
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x1_0000)
  return total
}
