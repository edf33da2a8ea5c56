// Events and streams when there are many, and when somebody does not take them.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { findProcesses } from '../src/driver/process.ts'
import { Client } from '../src/rpc/index.ts'
import { define, domainXml, folder, startDaemon, stateOf, until } from './support/daemon.ts'
import { monitorOnlyEmulator } from './support/monitor-only.ts'
import { MIB } from './support/rig.ts'

const STARTED = 2
const STOPPED = 5
const CLIENTS = 100
const DOMAINS = 50

test.serial(
  'a hundred clients hear of fifty domains that start and stop, in order, and once',
  async (t) => {
    const at = folder(t)
    const emulator = monitorOnlyEmulator(at)
    const daemon = await startDaemon(t, at)
    const every = { event: 0, dom: undefined }
    const heard = await Promise.all(
      Array.from({ length: CLIENTS }, async () => {
        const client = await daemon.client()
        const events = new Map<string, number[]>()
        client.on('DOMAIN_EVENT_CALLBACK_LIFECYCLE', ({ message: { dom, event } }) => {
          events.set(dom.name, [...(events.get(dom.name) ?? []), event])
        })
        await client.call('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', every)
        return events
      }),
    )
    // One more registers as well, and reads nothing.
    const deaf = connect({ path: daemon.socket })
    await once(deaf, 'connect')
    t.teardown(() => deaf.destroy())
    const mute = await Client.open({ stream: deaf })
    await mute.call('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', every)
    deaf.pause()

    const client = await daemon.client()
    await Promise.all(
      Array.from({ length: DOMAINS }, async (_, i) => {
        const xml = domainXml(`d${i}`, { emulator })
        const { dom } = await client.call('DOMAIN_CREATE_XML', { xml, flags: 0 })
        await client.call('DOMAIN_DESTROY', { dom })
      }),
    )
    const count = (events: Map<string, number[]>): number => [...events.values()].flat().length
    await until(() => heard.every((events) => count(events) >= 2 * DOMAINS), 60)
    for (const events of heard) {
      t.is(events.size, DOMAINS)
      for (const [name, kinds] of events) t.deepEqual(kinds, [STARTED, STOPPED], name)
    }
    t.deepEqual(daemon.log, [])
    t.is((await client.call('CONNECT_NUM_OF_DOMAINS', undefined)).count, 0)
  },
)

const residentBytes = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024

test.serial(
  'a console whose reader does not read costs no memory, and goes on when it reads',
  async (t) => {
    const at = folder(t)
    const main = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
    const args = ['--import=tsx', main, '--state', join(at, 'state'), '--socket', join(at, 's')]
    // Of a process of its own, so that the memory is the daemon's.
    const daemon = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    t.teardown(() => {
      daemon.kill('SIGKILL')
      for (const { pid } of findProcesses(join(at, 'state', 'run'))) process.kill(pid, 'SIGKILL')
    })
    await once(daemon.stderr, 'data')
    const client = await Client.open({ path: join(at, 's') })
    t.teardown(() => client.destroy())
    const dom = await define(client, domainXml('flood', { emulator: monitorOnlyEmulator(at) }))
    await client.call('DOMAIN_CREATE', { dom })

    const socket = connect({ path: join(at, 's') })
    await once(socket, 'connect')
    const reader = await Client.open({ stream: socket }, { keepAliveMs: 0 })
    t.teardown(() => reader.destroy())
    const console = { dom, device: undefined, flags: 0 }
    const { stream } = await reader.openStream('DOMAIN_OPEN_CONSOLE', console)
    let bytes = 0
    stream.on('data', (chunk: Buffer) => (bytes += chunk.length))
    await until(() => bytes > MIB)
    socket.pause()
    const taken = bytes
    // What is under way has to settle before there is anything to compare with.
    await new Promise((resolve) => setTimeout(resolve, 300))
    const before = residentBytes(daemon.pid!)
    await new Promise((resolve) => setTimeout(resolve, 1000))
    const grown = residentBytes(daemon.pid!) - before
    t.true(grown < 32 * MIB, `${grown} bytes more`)
    // Others are served.
    t.deepEqual((await stateOf(client, dom))[0], 1)
    socket.resume()
    await until(() => bytes > taken + 64 * MIB, 60)
    socket.pause()
    await client.call('DOMAIN_DESTROY', { dom })
    t.deepEqual((await stateOf(client, dom))[0], STOPPED)
  },
)

test.serial(
  'a client that goes while its console is opened leaves the console to others',
  async (t) => {
    const at = folder(t)
    const { client: open, socket, log } = await startDaemon(t, at)
    const client = await open()
    const dom = await define(client, domainXml('a', { emulator: monitorOnlyEmulator(at) }))
    await client.call('DOMAIN_CREATE', { dom })
    const console = { dom, device: undefined, flags: 0 }
    const { stream: first } = await client.openStream('DOMAIN_OPEN_CONSOLE', console)
    // To take a console over takes a moment, in which this one goes.
    const taken = new Promise((resolve) => first.once('close', resolve))
    // The guest says more than waits for a reader, and the error comes behind it.
    first.resume()
    const brief = await Client.open({ path: socket })
    const asked = brief.openStream('DOMAIN_OPEN_CONSOLE', { ...console, flags: 1 })
    await taken
    t.regex(String(first.errored), /took over the console/)
    brief.destroy()
    // On a busy host it may have been opened by then.
    await asked.catch(() => undefined)
    await until(async () => {
      try {
        const { stream } = await client.openStream('DOMAIN_OPEN_CONSOLE', console)
        stream.destroy()
        return true
      } catch (error) {
        // The daemon hears of the other's end in its own time; whatever else it says is wrong.
        t.regex(String(error), /Active console session exists/)
        return false
      }
    })
    t.deepEqual(log, [])
  },
)
