import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Answers the monitor as an emulator does, and runs no guest; its serial port writes as fast as it is read. */
const PROGRAM = `
import { createServer } from 'node:net'
const monitor = process.argv.find((word) => word.startsWith('socket,id=charmonitor,'))
const path = /path=([^,]+)/.exec(monitor)[1]
const serial = path.replace('qmp.sock', 'serial.sock')
const results = {
  'query-chardev': [{ label: 'charserial0', filename: 'unix:' + serial + ',server=on' }],
  'query-status': { status: 'running', running: true, singlestep: false },
}
createServer((socket) => {
  const send = (message) => socket.write(JSON.stringify(message) + '\\n')
  send({ QMP: { version: { qemu: { major: 7, minor: 2, micro: 0 }, package: '' }, capabilities: [] } })
  let rest = ''
  socket.setEncoding('utf8').on('error', () => undefined).on('data', (text) => {
    const lines = (rest + text).split('\\n')
    rest = lines.pop()
    for (const line of lines) {
      const { execute, id } = JSON.parse(line)
      send({ return: results[execute] ?? {}, id })
      if (execute === 'quit') socket.end(() => process.exit(0))
    }
  })
}).listen(path)
const chunk = Buffer.alloc(1 << 16, 'x')
createServer((socket) => {
  const fill = () => {
    while (socket.writable && socket.write(chunk));
  }
  socket.on('error', () => undefined).on('drain', fill)
  fill()
}).listen(serial)
process.on('SIGTERM', () => process.exit(0))
`

/** Writes an emulator that starts at once and needs no memory: for tests of what the daemon does with many. */
export function monitorOnlyEmulator(folder: string): string {
  const module = join(folder, 'monitor-only.mjs')
  writeFileSync(module, PROGRAM)
  // By its name it is taken for QEMU.
  const path = join(folder, 'qemu-system-x86_64')
  writeFileSync(path, `#!/bin/sh\nexec '${process.execPath}' '${module}' "$@"\n`)
  chmodSync(path, 0o755)
  return path
}
