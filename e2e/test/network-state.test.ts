// A machine that goes on from a saved state on its network in user mode: a program that waits for data learns that nobody sends any,
// the address stays, and ports of the host lead into the guest.
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { VirtualMachine, parseUserOptions } from 'qemu-vmm'
import { bootTimeoutMs, guestFiles } from '../src/guest.ts'
import { freePort } from '../src/free-port.ts'
import { savedMachine } from '../src/resumed.ts'

const { kernel, diskInitrd: initrd } = guestFiles
const wait = { timeoutMs: bootTimeoutMs }

async function shell(vm: VirtualMachine, line: string): Promise<string> {
  // The marker is not in the line as the terminal echoes it.
  vm.type(`${line}; echo 'the'' end'\n`)
  return await vm.expect(/the end\r?\n/, wait)
}

test.serial('a guest that only waits is told that its connection is gone', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const forwarded = await freePort()
  const value = `tcp:127.0.0.1:${forwarded}-:22`
  const config = {
    ...savedMachine,
    kernel,
    initrd,
    plug: [{ driver: 'virtio-net-pci', properties: { netdev: 'n' } }],
  }
  const netdevs = [parseUserOptions('n', [{ key: 'hostfwd', value }])]
  const saved = async () => {
    await using vm = await VirtualMachine.start({ ...config, netdevs })
    await vm.expect(/up after [^]* # /, wait)
    await shell(vm, 'ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; mkfifo /tmp/f')
    const { port } = server.address() as AddressInfo
    const connection = once(server, 'connection')
    vm.type('sleep 100000 >/tmp/f &\n')
    vm.type(`nc 10.0.2.2 ${port} </tmp/f; echo 'it'' ended'\n`)
    const [socket] = (await connection) as [Socket]
    socket.on('error', () => {})
    socket.write('the first data\n')
    await vm.expect('the first data', wait)
    return await vm.saveState()
  }
  const state = await saved()
  const folder = mkdtempSync(join(tmpdir(), 'network-state-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'frames')
  const dump = { type: 'filter-dump', id: 'd', netdev: 'n', file } as const
  const later = { ...config, netdevs, objects: [dump], startPaused: true }
  await using other = new VirtualMachine(later)
  await other.start()
  await other.loadState(state)
  await other.resume()
  // Nothing else would wake it up.
  await other.expect(/it ended\r?\n/, wait)
  other.type('nc -l -p 22 </dev/null &\n')
  await shell(other, 'until netstat -ltn | grep -q :22; do sleep 0.1; done')
  const client = connect(forwarded, '127.0.0.1')
  client.end('through the forward\n')
  t.regex(await other.expect('through the forward', wait), /through the forward/)
  client.destroy()
  // The card has told the network where it is, and so has the guest: a question for its own address, to all.
  await shell(other, 'sleep 1')
  const frames = readFileSync(file)
  const mac = Buffer.from('525400123456', 'hex')
  const all = Buffer.alloc(6, 255)
  const ethernet = (type: string): Buffer => Buffer.concat([all, mac, Buffer.from(type, 'hex')])
  t.true(frames.includes(Buffer.concat([ethernet('8035'), Buffer.from('0001080006040003', 'hex')])))
  const own = Buffer.from([10, 0, 2, 15])
  const arp = ethernet('0806')
  let told = false
  for (let at = frames.indexOf(arp); at >= 0; at = frames.indexOf(arp, at + 1)) {
    const [sender, target] = [frames.subarray(at + 28, at + 32), frames.subarray(at + 38, at + 42)]
    told ||= sender.equals(own) && target.equals(own)
  }
  t.true(told)
})
