// A guest whose servers are this program: each of its connections is decided on here.
//   npx tsx examples/fake-server.ts
import { setTimeout as sleep } from 'node:timers/promises'
import { VirtualMachine, parseUserOptions } from 'qemu-vmm'
import type { ConnectDecision, ConnectRequest } from 'qemu-vmm'
import { kernel, networkInitrd } from './guest-files.ts'

const page = 'HTTP/1.0 200 OK\r\n\r\nfrom the host\n'

async function onConnect({ protocol, to }: ConnectRequest): Promise<ConnectDecision> {
  console.log(`asked: ${protocol} to ${to.address}:${to.port}`)
  if (to.port === 81) return 'refuse'
  // A connection that breaks before the answer.
  if (to.port === 82) return { stream: (socket) => void setTimeout(() => socket.resetAndDestroy()) }
  // A server that is slow.
  await sleep(200)
  return { stream: (socket) => void socket.once('data', () => socket.end(page)) }
}

const vm = new VirtualMachine({
  memory: 256 << 20,
  kernel,
  initrd: networkInitrd,
  append: 'console=ttyS0 quiet',
  host: 'worker',
  netdevs: [{ ...parseUserOptions('net0', []), onConnect }],
  plug: [{ driver: 'virtio-net-pci', properties: { netdev: 'net0' } }],
})
await vm.start()
await vm.expect(/ # /)
const commands = [
  'ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up',
  'ip route add default via 10.0.2.2',
  // An address that no server has (RFC 5737).
  ...[80, 81, 82].map((port) => `wget -q -O - http://192.0.2.1:${port}/; echo status $?`),
]
for (const command of commands) {
  vm.type(`${command}\n`)
  console.log(await vm.expect(/ # /))
}
vm.type('poweroff -f\n')
await vm.exited
