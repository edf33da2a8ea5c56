// The network of a guest without any rights on the host: addresses by DHCP, servers of the host, and the way in.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer, get } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { freePort } from '../src/free-port.ts'
import { bootArguments, command, guestFiles, withGuest } from '../src/guest.ts'
import { lease } from '../src/lease.ts'

function machine(nic: string): string[] {
  return [...bootArguments({ memoryMib: 256, initrd: guestFiles.diskInitrd }), '-nic', nic]
}

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

test.serial('a guest gets an address, and reaches the host and nothing it must not', async (t) => {
  const body = Buffer.alloc(8 << 20, 'network ')
  const server = createServer((_request, response) => void response.end(body))
  const port = await listening(server)
  try {
    await withGuest(machine('user,model=virtio'), async (guest) => {
      t.deepEqual(await lease(guest), ['10.0.2.15', '10.0.2.2', '10.0.2.3'])
      t.regex(await guest.shell('ip link show eth0'), /link\/ether 52:54:00:12:34:56/)
      t.regex(await guest.shell('ping -c 3 10.0.2.2'), /3 packets received, 0% packet loss/)
      const size = await guest.shell(`wget -q -O - http://10.0.2.2:${port}/ | md5sum`)
      t.is(size.split(' ')[0], createHash('md5').update(body).digest('hex'))
      t.regex(await guest.shell('wget -O - http://10.0.2.2:1/ 2>&1; true'), /refused/)
    })
  } finally {
    server.closeAllConnections()
    server.close()
  }
})

/** Cards for guests without drivers for virtio; without an option for networks there is an e1000, on q35 an e1000e. */
const oldCards = [
  ['e1000, by default', [], /PRO\/1000 Network Connection/],
  ['e1000e, by default on q35', ['-machine', 'q35'], /PCI Express:2\.5GT/],
  ['rtl8139', ['-nic', 'user,model=rtl8139'], /RTL-8139C\+/],
] as const

for (const [name, options, driver] of oldCards) {
  test.serial(`${name}: Debian's driver gets an address, and megabytes both ways`, async (t) => {
    const body = Buffer.alloc(8 << 20, 'network card ')
    const sum = createHash('md5').update(body).digest('hex')
    const uploads: string[] = []
    const server = createServer((request, response) => {
      if (request.method === 'GET') return void response.end(body)
      const hash = createHash('md5')
      request.on('data', (data: Buffer) => hash.update(data))
      request.on('end', () => {
        uploads.push(hash.digest('hex'))
        response.end()
      })
    })
    const port = await listening(server)
    const { cardsKernel: kernel, cardsInitrd: initrd } = guestFiles
    const boot = bootArguments({ memoryMib: 256, kernel, initrd })
    try {
      await withGuest([...boot, ...options], async (guest) => {
        t.deepEqual(await lease(guest), ['10.0.2.15', '10.0.2.2', '10.0.2.3'])
        t.regex(await guest.shell('dmesg | grep eth0'), driver)
        t.regex(await guest.shell('ip link show eth0'), /link\/ether 52:54:00:12:34:56/)
        t.regex(await guest.shell('ping -c 3 10.0.2.2'), /3 packets received, 0% packet loss/)
        const url = `http://10.0.2.2:${port}/`
        const got = await guest.shell(`wget -q -O /tmp/body ${url}; md5sum </tmp/body`)
        t.is(got.split(' ')[0], sum)
        // The way up, in large packets that the card cuts.
        const length = `Content-Length: ${body.length}`
        await guest.shell(`printf 'POST / HTTP/1.0\\r\\n${length}\\r\\n\\r\\n' >/tmp/post`)
        await guest.shell(`cat /tmp/post /tmp/body | nc 10.0.2.2 ${port}`)
        t.deepEqual(uploads, [sum])
        const errors = '/sys/class/net/eth0/statistics/[rt]x_errors'
        t.is(await guest.shell(`cat ${errors}`), '0\n0\n')
      })
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })
}

test.serial('a card and a network that -net plugs into a hub', async (t) => {
  const boot = bootArguments({ memoryMib: 256, initrd: guestFiles.diskInitrd })
  await withGuest([...boot, '-net', 'nic,model=virtio', '-net', 'user'], async (guest) => {
    t.deepEqual(await lease(guest), ['10.0.2.15', '10.0.2.2', '10.0.2.3'])
    t.regex(await guest.shell('ping -c 2 10.0.2.2'), /2 packets received, 0% packet loss/)
  })
})

test.serial('a port of the host leads into the guest', async (t) => {
  const port = await freePort()
  const nic = `user,model=virtio,hostfwd=tcp:127.0.0.1:${port}-:7,restrict=on`
  await withGuest(machine(nic), async (guest) => {
    await lease(guest)
    await guest.shell('mkdir -p /tmp/www; echo from the guest >/tmp/www/index.html')
    await guest.shell('httpd -p 7 -h /tmp/www')
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => socket.write('GET / HTTP/1.0\r\n\r\n'))
      let text = ''
      socket.on('data', (data) => (text += data.toString('latin1')))
      socket.on('error', reject)
      socket.on('close', () => resolve(text))
    })
    t.regex(answer, /200 OK[^]*from the guest/)
  })
})

test.serial('UNIX sockets and datagrams lead into the guest and out of it', async (t) => {
  await withFolder(async (folder) => {
    const [into, out] = [join(folder, 'in'), join(folder, 'out')]
    const web = createServer((_request, response) => response.end('from the host\n')).listen(out)
    const files = createSocket('udp4').bind(0, '127.0.0.1')
    t.teardown(() => {
      web.close()
      files.close()
    })
    await Promise.all([once(web, 'listening'), once(files, 'listening')])
    // To a question of TFTP (1) the one block that the file has (3); what confirms it (4) has no answer.
    files.on('message', (message, { port }) => {
      if (message[1] !== 1) return
      const name = message.subarray(2, message.indexOf(0, 2)).toString()
      files.send(Buffer.from(`\0\u0003\0\u0001this is ${name}\n`), port, '127.0.0.1')
    })
    const forwards = [
      `hostfwd=unix:${into}-:7`,
      `guestfwd=tcp:10.0.2.100:80-unix:${out}`,
      'guestfwd=tcp:10.0.2.102:7-cmd:echo from a command',
      `guestfwd=udp:10.0.2.101:69-udp:127.0.0.1:${files.address().port}`,
    ]
    const nic = `user,model=virtio,${forwards.join(',')},restrict=on`
    await withGuest(machine(nic), async (guest) => {
      await lease(guest)
      t.is(await guest.shell('wget -q -O - http://10.0.2.100/'), 'from the host\n')
      for (let i = 0; i < 3; i++) {
        t.is(await guest.shell('nc 10.0.2.102 7 </dev/null'), 'from a command\n')
      }
      await guest.shell('tftp -g -r a-file -l /tmp/got 10.0.2.101')
      t.is(await guest.shell('cat /tmp/got'), 'this is a-file\n')
      await guest.shell('mkdir -p /tmp/www; echo from the guest >/tmp/www/index.html')
      await guest.shell('httpd -p 7 -h /tmp/www')
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        get({ socketPath: into, path: '/' }, resolve).on('error', reject)
      })
      t.is(await text(response), 'from the guest\n')
    })
    // It was killed, and its socket is left: the next machine takes it, and leaves nothing behind.
    t.true(existsSync(into))
    const args = [...machine(nic), '-S', '-monitor', 'stdio', '-serial', 'none']
    const { status, stderr } = spawnSync(command, args, { input: 'quit\n', encoding: 'utf8' })
    t.is(status, 0, stderr)
    t.false(existsSync(into))
  })
})
