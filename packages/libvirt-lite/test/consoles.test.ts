// Consoles that nobody watches, and those who begin to.
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { ConsoleTap, KEPT_BYTES } from '../src/driver/console-tap.ts'
import { buttonDisk, diskXml } from './support/button-guest.ts'
import { domainXml, folder, startDaemon, until } from './support/daemon.ts'

test('the end of what nobody read is there for the next one, and no more than that', async (t) => {
  const path = join(folder(t), 's')
  const guests: Socket[] = []
  const server = createServer((guest) => guests.push(guest.on('error', () => guest.destroy())))
  server.listen(path)
  await once(server, 'listening')
  t.teardown(() => server.close())
  const tap = await ConsoleTap.open(path)
  t.teardown(() => tap.close())
  await until(() => guests.length === 1)
  const guest = guests[0]!
  const lines = Array.from({ length: 30_000 }, (_, i) => `line ${i}\n`).join('')
  guest.write(lines)
  await until(() => guest.bytesWritten === lines.length && guest.writableLength === 0)
  await sleep(50)
  const first = tap.watch()
  let text = ''
  first.on('data', (chunk: Buffer) => (text += chunk.toString()))
  await until(() => text.length > 0)
  await sleep(20)
  t.is(text, lines.slice(-KEPT_BYTES))
  guest.write('live')
  await until(() => text.endsWith('live'))
  const typed = once(guest, 'data')
  first.write('typed')
  t.is(String((await typed)[0]), 'typed')

  // What one has read, the next does not get again.
  first.destroy()
  guest.write('later')
  await sleep(50)
  const second = tap.watch()
  t.is(String((await once(second, 'data'))[0]), 'later')

  // Whoever does not read has the guest wait, and nothing is lost.
  second.pause()
  guest.write(Buffer.alloc(4 << 20, 'x'))
  await sleep(100)
  t.true(second.readableLength < 1 << 20)
  let length = 0
  second.on('data', (chunk: Buffer) => (length += chunk.length))
  second.resume()
  await until(() => length === 4 << 20)

  const ended = once(second, 'end')
  guest.destroy()
  await ended
  second.write('to nobody')
  t.pass()
})

test.serial('a console shows what the guest wrote before anybody watched', async (t) => {
  const at = folder(t)
  const { client: open, daemon } = await startDaemon(t, at)
  const client = await open()
  const { dom } = await client.call('DOMAIN_CREATE_XML', {
    xml: domainXml('c', { devices: diskXml(buttonDisk(at)) }),
    flags: 0,
  })
  // The boot sector has been read, so that its program has run.
  await until(async () => {
    const { readBytes } = await client.call('DOMAIN_BLOCK_STATS', { dom, path: 'vda' })
    return readBytes > 0n
  })
  await sleep(1000)
  const args = { dom, device: undefined, flags: 0 }
  const read = async (): Promise<string> => {
    const { stream } = await client.openStream('DOMAIN_OPEN_CONSOLE', args)
    let text = ''
    stream.on('data', (chunk: Buffer) => (text += chunk.toString()))
    await until(() => text.includes('R'))
    stream.destroy()
    return text
  }
  t.regex(await read(), /R/)
  // It is started again, and the next daemon is the one who listens.
  await client.call('DOMAIN_RESET', { dom, flags: 0 })
  await client.close()
  await daemon.stop()
  const next = await (await startDaemon(t, at)).client()
  const { stream } = await next.openStream('DOMAIN_OPEN_CONSOLE', args)
  const closed = once(stream.resume(), 'close')
  await next.call('DOMAIN_DESTROY', { dom })
  await closed
  t.pass()
})
