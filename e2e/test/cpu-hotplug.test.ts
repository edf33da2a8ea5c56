// Processors come and go while Debian's kernel runs, told by QMP as libvirt tells it; the same on QEMU.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { bootArguments, command, hasPeer, peer, withGuest } from '../src/guest.ts'
import { machineProtocol } from '../src/qmp.ts'

const CPUS = '/sys/devices/system/cpu'
const PLACE = { 'socket-id': 0, 'core-id': 1, 'thread-id': 0 }
const programs = hasPeer ? [command, peer] : [command]

/** What the guest shows at each step; `machine` is a kind of machine. */
async function seenOn(program: string, machine: string): Promise<Record<string, string>> {
  return await withFolder(async (folder) => {
    const path = join(folder, 'qmp')
    const args = [
      ...bootArguments({ memoryMib: 256 }),
      '-M',
      machine,
      '-accel',
      'tcg',
      '-smp',
      '1,maxcpus=2',
      '-qmp',
      `unix:${path},server=on,wait=off`,
    ]
    const seen: Record<string, string> = {}
    await withGuest(
      args,
      async (guest) => {
        while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 10))
        const qmp = await machineProtocol(path)
        try {
          await qmp.ask('qmp_capabilities')
          const until = (condition: string): Promise<string> =>
            guest.shell(`until ${condition}; do sleep 0.1; done`)
          const look = async (when: string): Promise<void> => {
            seen[when] = await guest.shell(`cd ${CPUS}; cat present possible online; cd /`)
          }
          await look('boot')
          const driver = 'qemu64-x86_64-cpu'
          await qmp.ask('device_add', { driver, id: 'c1', ...PLACE })
          await until(`[ -d ${CPUS}/cpu1 ]`)
          await look('plugged in')
          const places = (await qmp.ask('query-hotpluggable-cpus')) as object[]
          seen['places'] = JSON.stringify(places.map((one) => Object.keys(one).toSorted()))
          await guest.shell(`echo 1 > ${CPUS}/cpu1/online`)
          await look('online')
          seen['work'] = await guest.shell("taskset 2 sh -c 'echo $((6 * 7))'")
          const status = (await qmp.ask('query-acpi-ospm-status')) as object[]
          seen['told'] = JSON.stringify(
            status.map((one) => Object.entries(one).toSorted(([a], [b]) => (a < b ? -1 : 1))),
          )
          // A reset keeps it; then the guest lets go of it.
          await qmp.ask('system_reset')
          await guest.expect(/up after[^]* # $/)
          await look('after a reset')
          // QEMU 7.2's translator does not come back from the end of a processor.
          if (program === peer) return
          await qmp.ask('device_del', { id: 'c1' })
          await qmp.event('DEVICE_DELETED', 'c1')
          await until(`! [ -d ${CPUS}/cpu1 ]`)
          await look('gone')
          seen['kernel'] = await guest.shell('dmesg | grep -ciE "call trace|warning: cpu"')
        } finally {
          qmp.close()
        }
      },
      program,
    )
    return seen
  })
}

for (const machine of ['pc', 'q35']) {
  test.serial(`Linux on ${machine} gets a processor, works on it, and gives it back`, async (t) => {
    const [ours, theirs] = await Promise.all(programs.map((program) => seenOn(program, machine)))
    t.deepEqual(ours, {
      boot: '0\n0-1\n0\n',
      'plugged in': '0-1\n0-1\n0\n',
      places: ours!['places'],
      online: '0-1\n0-1\n0-1\n',
      work: '42\n',
      told: ours!['told'],
      'after a reset': '0-1\n0-1\n0-1\n',
      gone: '0\n0-1\n0\n',
      kernel: '0\n',
    })
    const { gone: _gone, kernel: _kernel, ...both } = ours!
    if (theirs !== undefined) t.deepEqual(both, theirs)
  })
}
