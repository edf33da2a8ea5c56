// passt as a guest's network, a process of its own at the other end of a UNIX socket: an address by DHCP, files both ways, and its end.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { freePort } from '../src/free-port.ts'
import { bootArguments, guestFiles, withGuest } from '../src/guest.ts'
import { lease } from '../src/lease.ts'

const isThere = spawnSync('passt', ['--help']).error === undefined

/** Starts it with a way in to the guest's port 80; what it says when it does not begin. */
async function startPasst(path: string, port: number): Promise<[ChildProcess, string]> {
  const network = ['-4', '-a', '10.77.0.15', '-n', '24', '-g', '10.77.0.2', '-D', 'none']
  const ways = ['-t', `127.0.0.1/${port}:80`, '-u', 'none']
  const passt = spawn('passt', ['-f', '-1', '-s', path, ...network, ...ways])
  let said = ''
  passt.stderr.setEncoding('utf8').on('data', (text: string) => (said += text))
  while (!existsSync(path) && passt.exitCode === null) await setTimeout(50)
  return [passt, passt.exitCode === null ? '' : said]
}

test.serial('a guest behind passt gets an address, and serves and fetches files', async (t) => {
  if (!isThere) {
    t.log('passt is not installed: this test is left out')
    t.pass()
    return
  }
  const body = Buffer.alloc(8 << 20, 'by way of passt ')
  const sum = createHash('md5').update(body).digest('hex')
  const server = createServer((_request, response) => void response.end(body))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port: web } = server.address() as AddressInfo
  const port = await freePort()
  await withFolder(async (folder) => {
    // Started by root, it becomes nobody.
    chmodSync(folder, 0o777)
    const path = join(folder, 'passt')
    const [passt, refusal] = await startPasst(path, port)
    t.teardown(() => passt.kill())
    if (refusal !== '') {
      t.log(`passt does not start here, so this test is left out: ${refusal}`)
      t.pass()
      return
    }
    const boot = bootArguments({ memoryMib: 256, initrd: guestFiles.diskInitrd })
    const netdev = `stream,id=n,server=off,addr.type=unix,addr.path=${path}`
    const card = ['-netdev', netdev, '-device', 'virtio-net-pci,netdev=n']
    await withGuest([...boot, ...card], async (guest) => {
      t.deepEqual(await lease(guest), ['10.77.0.15', '10.77.0.2'])
      const got = await guest.shell(`wget -q -O - http://10.77.0.2:${web}/ | md5sum`)
      t.is(got.split(' ')[0], sum)
      await guest.shell('mkdir /tmp/www; seq 150000 >/tmp/www/numbers')
      await guest.shell('httpd -p 80 -h /tmp/www')
      const answer = await fetch(`http://127.0.0.1:${port}/numbers`)
      const numbers = Buffer.from(await answer.arrayBuffer())
      const expected = Array.from({ length: 150_000 }, (_, i) => `${i + 1}\n`).join('')
      t.is(numbers.toString(), expected)

      const ended = once(passt, 'exit')
      passt.kill()
      await ended
      while (!/the peer is gone/.test(guest.stderr)) await setTimeout(50)
      t.regex(await guest.shell('ping -c 2 -w 3 10.77.0.2; true'), / 100% packet loss/)
      t.is(await guest.shell('cat /sys/class/net/eth0/carrier'), '1\n')
    })
  })
})
