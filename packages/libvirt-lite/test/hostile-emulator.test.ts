// An emulator whose guest has taken it over: whatever its monitor says, the daemon serves others, and nothing is left of it.
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { findProcesses } from '../src/driver/process.ts'
import { VirtError } from '../src/rpc/index.ts'
import { define, domainXml, folder, startDaemon, stateOf, until } from './support/daemon.ts'
import { MIB } from './support/rig.ts'

/** Says at one command, or when the guest runs, what a file has beside it; otherwise it answers as an emulator does. */
const EMULATOR = `#!${process.execPath}
const { createServer } = require('node:net')
const { at, text, times, line } = JSON.parse(require('node:fs').readFileSync(__filename + '.evil', 'utf8'))
const path = /[=:]([^=:,]+qmp\\.sock)/.exec(process.argv.slice(2).join(' '))[1]
const answers = { 'query-chardev': [], 'query-status': { status: 'running', running: true } }
createServer((socket) => {
  const evil = (id) => {
    const said = text.replaceAll('ID', id)
    for (let i = 0; i < times; i++) socket.write(said)
    if (line) socket.write('\\n')
  }
  socket.on('error', () => undefined)
  if (at === 'greeting') evil('')
  else socket.write(JSON.stringify({ QMP: { version: {}, capabilities: [] } }) + '\\n')
  let rest = ''
  socket.on('data', (chunk) => {
    const lines = (rest + chunk).split('\\n')
    rest = lines.pop()
    for (const request of lines) {
      const { execute, id } = JSON.parse(request)
      if (execute === 'quit') process.exit(0)
      if (execute === at) evil(id)
      else socket.write(JSON.stringify({ return: answers[execute] ?? {}, id }) + '\\n')
      if (execute === 'cont' && at === 'later') setTimeout(evil, 50, id)
    }
  })
}).listen(path)
`

interface Evil {
  text: string
  times?: number
  /** Whether it ends the line (default: it does). */
  line?: boolean
}

/** Nothing of these is a message of a monitor. */
const NONSENSE: readonly Evil[] = [
  { text: '{"return":' },
  { text: '\u0000\u0001\u00ff' },
  { text: 'null' },
  { text: '7' },
  { text: '"QMP"' },
  { text: '[{"event":"STOP"}]' },
  { text: '['.repeat(MIB) },
  { text: `{"return":${'['.repeat(65)}${']'.repeat(65)},"id":"ID"}` },
  // No line has an end so late.
  { text: 'x'.repeat(MIB), times: 20, line: false },
]

for (const at of ['greeting', 'query-chardev', 'cont', 'later']) {
  test(`nonsense at ${at} ends the domain, and no more`, async (t) => {
    const where = folder(t)
    const emulator = join(where, 'qemu-system-x86_64')
    writeFileSync(emulator, EMULATOR, { mode: 0o755 })
    const { client: open, state, log } = await startDaemon(t, where)
    const client = await open()
    const dom = await define(client, domainXml('a', { emulator }))
    for (const { text, times = 1, line = true } of NONSENSE) {
      writeFileSync(`${emulator}.evil`, JSON.stringify({ at, text, times, line }))
      const started = client.call('DOMAIN_CREATE', { dom })
      if (at === 'later') await started
      else {
        const error = await t.throwsAsync(started, { instanceOf: VirtError }, text.slice(0, 40))
        t.regex(String(error?.message), /monitor/)
      }
      await until(async () => (await stateOf(client, dom))[0] === 5)
      t.deepEqual(findProcesses(state), [])
      t.deepEqual(readdirSync(join(state, 'run')), [])
    }
    t.deepEqual(log, [])
  })
}

/** A text of an object that becomes neither a text nor a number. */
const STUBBORN = '{"toString":1,"valueOf":1}'

test('events and answers of wrong types change nothing', async (t) => {
  const at = folder(t)
  const emulator = join(at, 'qemu-system-x86_64')
  writeFileSync(emulator, EMULATOR, { mode: 0o755 })
  const { client: open } = await startDaemon(t, at)
  const client = await open()
  const dom = await define(client, domainXml('a', { emulator }))
  const names = [
    'BALLOON_CHANGE',
    'DEVICE_TRAY_MOVED',
    'DEVICE_UNPLUG_GUEST_ERROR',
    'DEVICE_DELETED',
  ]
  const values = ['null', '7', '"x"', '[]', STUBBORN, `{"id":${STUBBORN},"device":${STUBBORN}}`]
  const events = names.flatMap((name) =>
    [...values, `{"actual":${STUBBORN}}`].map((data) => `{"event":"${name}","data":${data}}\n`),
  )
  const text = [
    ...events,
    `{"event":${STUBBORN}}\n{"event":null}\n{"id":${STUBBORN}}\n{"id":["ID"],"return":{}}\n`,
    '{"QMP":null}\n{"return":{},"id":"of nobody"}\n{}\n',
  ].join('')
  writeFileSync(`${emulator}.evil`, JSON.stringify({ at: 'later', text, times: 1, line: false }))
  await client.call('DOMAIN_CREATE', { dom })
  // It answers after all of that.
  await new Promise((resolve) => setTimeout(resolve, 200))
  await client.monitorCommand({ dom, command: '{"execute":"query-status"}', flags: 0 })
  t.deepEqual(await stateOf(client, dom), [1, 1])
  await client.call('DOMAIN_DESTROY', { dom })
  // An answer is what it is asked for, or the domain does not start.
  for (const answer of ['7', 'null', '[null]', '{"error":null}', '[{"label":{}}]']) {
    const reply = answer.startsWith('{') ? `"error":null` : `"return":${answer}`
    const said = `{"id":"ID",${reply}}`
    writeFileSync(
      `${emulator}.evil`,
      JSON.stringify({ at: 'query-chardev', text: said, times: 1, line: true }),
    )
    const started = client.call('DOMAIN_CREATE', { dom })
    if (answer.includes('label')) await started
    else await t.throwsAsync(started, { instanceOf: VirtError }, said)
    await client.call('DOMAIN_DESTROY', { dom }).catch(() => undefined)
    t.deepEqual((await stateOf(client, dom))[0], 5)
  }
})
