// The processors of the host that threads of a domain may run on, as the kernel has them.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { hasVirsh, virsh, without } from './support/clients.ts'
import { domainXml, folder, startDaemon, until } from './support/daemon.ts'
import { qemu } from './support/libvirtd.ts'

const emulators = [['qemu-kvm'], ...(existsSync(qemu) ? [['QEMU', qemu]] : [])] as const

const QUERY = '{"execute":"query-cpus-fast"}'

/** Threads, and where they may run. */
function threads(pid: number): Map<number, string> {
  return new Map(
    readdirSync(`/proc/${pid}/task`).map((tid) => {
      const status = readFileSync(`/proc/${pid}/task/${tid}/status`, 'utf8')
      return [Number(tid), /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? '']
    }),
  )
}

for (const [name, emulator] of emulators) {
  test.serial(`threads are where the definition says: ${name}`, async (t) => {
    if (!hasVirsh) return without(t, 'virsh')
    if (availableParallelism() < 2) {
      t.log('this host has one processor')
      t.pass()
      return
    }
    const at = folder(t)
    const { state, socket, client: open } = await startDaemon(t, at)
    const client = await open()
    const told: unknown[] = []
    client.on('DOMAIN_EVENT_CALLBACK_TUNABLE', ({ params }) => told.push(params))
    await client.call('CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY', { event: 17, dom: undefined })
    const more =
      "<cputune><vcpupin vcpu='1' cpuset='1'/><vcpupin vcpu='2' cpuset='1'/><emulatorpin cpuset='0-1'/></cputune>"
    const xml = domainXml('a', { more, ...(emulator && { emulator }) }).replace(
      '<vcpu>1',
      "<vcpu cpuset='0' current='2'>3",
    )
    const { dom } = await client.call('DOMAIN_CREATE_XML', { xml, flags: 0 })
    const status = JSON.parse(
      readFileSync(join(state, 'run', `${dom.id}`, 'status.json'), 'utf8'),
    ) as { process: { pid: number } }
    const { pid } = status.process
    const numbers = async (): Promise<number[]> => {
      const { output } = await virsh(socket, 'qemu-monitor-command', 'a', QUERY)
      const list = (JSON.parse(output) as { return: { 'thread-id': number }[] }).return
      return list.map((cpu) => cpu['thread-id'])
    }
    const [first = 0, second = 0] = await numbers()
    // Each vCPU is a thread of its own.
    t.is(new Set([first, second, pid]).size, 3)
    const before = threads(pid)
    t.is(before.get(first), '0')
    t.is(before.get(second), '1')
    t.is(before.get(pid), '0-1')

    await client.call('DOMAIN_PIN_VCPU', { dom, vcpu: 0, cpumap: Uint8Array.of(2) })
    await client.call('DOMAIN_PIN_EMULATOR', { dom, cpumap: Uint8Array.of(1), flags: 1 })
    const after = threads(pid)
    t.is(after.get(first), '1')
    t.is(after.get(second), '1')
    for (const [tid, list] of after) {
      if (tid !== first && tid !== second) t.is(list, '0', `thread ${tid}`)
    }
    await until(() => told.length === 2)
    t.deepEqual(told, [
      [{ field: 'cputune.vcpupin0', type: 'string', value: '1' }],
      [{ field: 'cputune.emulatorpin', type: 'string', value: '0' }],
    ])
    // One that comes later is where it was said to be.
    await client.call('DOMAIN_SET_VCPUS_FLAGS', { dom, count: 3, flags: 1 })
    t.is(threads(pid).get((await numbers())[2] ?? 0), '1')

    await t.throwsAsync(
      client.call('DOMAIN_PIN_VCPU', { dom, vcpu: 0, cpumap: new Uint8Array(2) }),
      { message: 'invalid argument: Empty cpu list for pinning' },
    )
    await t.throwsAsync(
      client.call('DOMAIN_PIN_VCPU', { dom, vcpu: 3, cpumap: Uint8Array.of(1) }),
      {
        message: /vcpu 3 is out of range of live cpu count 3/,
      },
    )
    const far = new Uint8Array(64)
    far[63] = 128
    await t.throwsAsync(client.call('DOMAIN_PIN_VCPU', { dom, vcpu: 0, cpumap: far }), {
      message: /^cannot set CPU affinity on process \d+: Invalid argument$/,
    })
    t.is(threads(pid).get(first), '1')
    const { xml: shown } = await client.call('DOMAIN_GET_XML_DESC', { dom, flags: 0 })
    t.regex(shown, /<vcpupin vcpu='0' cpuset='1'\/>\n\s*<vcpupin vcpu='1'/)
  })
}
