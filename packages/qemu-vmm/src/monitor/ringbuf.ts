import { MonitorError } from './command.ts'
import type { ChardevInfo, MonitorCommand, MonitorContext } from './command.ts'

const BACKSLASH = 0x5c

/** Commands that read and fill the memory of a `ringbuf`. */
export const RINGBUF_COMMANDS: readonly MonitorCommand[] = [
  {
    name: 'ringbuf_read',
    params: 'device size',
    help: 'take out and show what a ringbuf device keeps, at most size bytes',
    maxArgs: 2,
    run: (context, [device, size = '']) => {
      const ring = find(context, device)
      const length = /^(0x[0-9a-f]+|[0-9]+)$/i.test(size) ? Number(size) : 0
      if (length < 1) throw new MonitorError('size must be greater than zero')
      return `${shown(ring.read(length))}\n`
    },
  },
  {
    name: 'ringbuf_write',
    params: 'device data',
    help: 'write a word to a ringbuf device',
    maxArgs: 2,
    run: (context, [device, data = '']) => {
      find(context, device).write(Buffer.from(data, 'latin1'))
      return ''
    },
  },
]

function find(context: MonitorContext, label: string = ''): NonNullable<ChardevInfo['ring']> {
  const device = context.characters.list().find((candidate) => candidate.label === label)
  if (device === undefined) throw new MonitorError(`Error: Device '${label}' not found`)
  if (device.ring === undefined) {
    throw new MonitorError(`Error: ${label} is not a ringbuf device`)
  }
  return device.ring
}

/** Control characters would do things to the terminal: they are shown by number. */
function shown(data: Uint8Array): string {
  let text = ''
  for (const byte of data) {
    if (byte === BACKSLASH) text += '\\\\'
    else if ((byte < 0x20 && byte !== 0x0a) || byte === 0x7f) {
      text += `\\u${byte.toString(16).padStart(4, '0')}`
    } else text += String.fromCharCode(byte)
  }
  return text
}
