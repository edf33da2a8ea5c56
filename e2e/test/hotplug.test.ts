// A disk and a random number generator come and go while Linux runs: by ACPI on pc and on ports of q35, and by these themselves.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import type { DeletedDevice, DeviceOption, MachineConfig } from 'qemu-vmm'
import { ext4Disk, inspect, withFolder } from '../src/disk.ts'
import { bootArguments, bootTimeoutMs, guestFiles, withGuest } from '../src/guest.ts'
import { machineProtocol } from '../src/qmp.ts'

const { kernel, diskInitrd: initrd } = guestFiles
/** A guest that is asked takes seconds: it gives its user five of them to think better of it. */
const timeoutMs = bootTimeoutMs

const boards = [
  {
    name: 'pc',
    type: 'pc',
    plug: [],
    buses: [undefined, undefined],
    devices: ['00:02.0', '00:03.0'],
  },
  { name: 'q35', ...q35() },
  { name: 'q35 by its ports', ...q35(), acpiPciHotplug: false },
] as const
/** The same for the command. */
const byPorts = ['-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off']

interface Board {
  type: 'pc' | 'q35'
  plug: readonly DeviceOption[]
  acpiPciHotplug?: boolean
}

function q35(): Board & { buses: string[]; devices: string[] } {
  return {
    type: 'q35',
    plug: [port('p1', 1), port('p2', 2)],
    buses: ['p1', 'p2'],
    devices: ['01:00.0', '02:00.0'],
  }
}

function port(id: string, slot: number): DeviceOption {
  return { driver: 'pcie-root-port', id, properties: { chassis: '1', slot: String(slot) } }
}

function configOf({ type, plug, acpiPciHotplug = true }: Board): MachineConfig {
  const machine = { type, options: { acpiPciHotplug } }
  return { memory: 256 << 20, kernel, initrd, append: 'console=ttyS0 quiet', machine, plug }
}

function on(
  bus: string | undefined,
  properties: Record<string, string> = {},
): DeviceOption['properties'] {
  return bus === undefined ? properties : { ...properties, bus }
}

/** Runs a line in the guest's shell; resolves to what it printed. */
async function shell(vm: VirtualMachine, line: string): Promise<string> {
  // What it prints may end within a line.
  vm.type(`${line}; printf '\\n%s\\n' do""ne\n`)
  const seen = await vm.expect(/\ndone\r?\n[^]*# /, { timeoutMs })
  return seen.slice(seen.indexOf('\n') + 1).replaceAll('\r', '')
}

/** Waits for something in the guest, as its kernel brings devices up in its own time. */
function until(vm: VirtualMachine, condition: string): Promise<string> {
  return shell(vm, `until ${condition}; do sleep 0.1; done`)
}

for (const board of boards) {
  const { name, buses, devices } = board
  test.serial(`a disk and an rng are plugged in, used and removed on ${name}`, async (t) => {
    await withFolder(async (folder) => {
      const file = ext4Disk(folder, 'disk', 16)
      await using vm = await VirtualMachine.start(configOf(board))
      const deleted: DeletedDevice[] = []
      vm.on('device-deleted', (device) => deleted.push(device))
      await vm.expect(/ # /, { timeoutMs })
      for (const round of [1, 2]) {
        await vm.addDrive({ id: 'd', file, format: 'qcow2' })
        await vm.addObject({ type: 'rng-builtin', id: 'o' })
        const [diskBus, rngBus] = buses
        await vm.addDevice({
          driver: 'virtio-blk-pci',
          id: 'disk',
          properties: on(diskBus, { drive: 'd', serial: `round${round}` }),
        })
        await vm.addDevice({
          driver: 'virtio-rng-pci',
          id: 'rng',
          properties: on(rngBus, { rng: 'o' }),
        })
        await until(vm, '[ -b /dev/vda ] && grep -q virtio /sys/class/misc/hw_random/rng_available')
        t.regex(await shell(vm, 'cat /sys/block/vda/serial'), new RegExp(`round${round}`))
        const seen = await shell(vm, 'ls /sys/bus/pci/devices')
        for (const device of devices) t.regex(seen, new RegExp(device.replace('.', '\\.')))
        t.regex(await shell(vm, 'cat /proc/interrupts'), /PCI-MSI.*virtio\d+-req/)
        t.regex(await shell(vm, 'head -c 64 /dev/hwrng | wc -c'), /^64$/m)
        await shell(vm, 'mkdir -p /mnt && mount -t ext4 /dev/vda /mnt')
        await shell(vm, `echo round ${round} >> /mnt/file; umount /mnt`)
        await t.throwsAsync(vm.removeDrive('d'), { code: 'E_IN_USE' })
        await t.throwsAsync(vm.removeObject('o'), { code: 'E_CONFIG', message: /in use/ })
        await Promise.all([
          vm.removeDevice('disk', { timeoutMs }),
          vm.removeDevice('rng', { timeoutMs }),
        ])
        t.is(deleted.length, 2 * round)
        t.notRegex(await shell(vm, 'ls /sys/block'), /vda/)
        const left = await shell(vm, 'ls /sys/bus/pci/devices')
        for (const device of devices) t.notRegex(left, new RegExp(device.replace('.', '\\.')))
        await vm.removeDrive('d')
        await vm.removeObject('o')
      }
      const trouble = await shell(vm, 'dmesg | grep -iE "call trace|i/o error|warning: cpu|failed"')
      t.notRegex(trouble, /trace|error|warning|failed/i)
      t.deepEqual(inspect(folder, file), [])
    })
  })
}

test.serial(
  'a machine with a device that was plugged in, and one about to leave, is saved',
  async (t) => {
    for (const board of boards) {
      const { name, buses } = board
      await using vm = await VirtualMachine.start(configOf(board))
      await vm.expect(/ # /, { timeoutMs })
      const drive = { id: 'd', file: guestFiles.disk, format: 'qcow2', readOnly: true } as const
      await vm.addDrive(drive)
      await vm.addDevice({
        driver: 'virtio-blk-pci',
        id: 'disk',
        properties: on(buses[0], { drive: 'd' }),
      })
      await until(vm, '[ -b /dev/vda ]')
      await vm.pause()
      await vm.removeDevice('disk')
      const state = await vm.saveState()
      const config = configOf({ ...board, plug: await vm.devices() })
      await using other = new VirtualMachine({ ...config, drives: [drive], startPaused: true })
      const gone = new Promise<void>((resolve) => {
        other.on('device-deleted', ({ id }) => {
          if (id === 'disk') resolve()
        })
      })
      await other.start()
      await other.loadState(state)
      await other.resume()
      await gone
      t.notRegex(await shell(other, 'ls /sys/block'), /vda/, name)
      await vm.resume()
      await vm.removeDevice('disk', { timeoutMs }).catch((error: unknown) => {
        // It was asked for before already: on a port that takes its time.
        t.regex(String(error), /already in the process of unplug|not found/)
      })
    }
  },
)

test.serial('a reset finishes on pc what the guest has not done', async (t) => {
  await using vm = await VirtualMachine.start({
    ...configOf({ type: 'pc', plug: [] }),
    startPaused: true,
  })
  const deleted: DeletedDevice[] = []
  vm.on('device-deleted', (device) => deleted.push(device))
  await vm.addDevice({ driver: 'virtio-rng-pci', id: 'rng', properties: {} })
  await vm.removeDevice('rng')
  t.deepEqual(deleted, [])
  await vm.reset()
  await vm.resume()
  await vm.expect(/ # /, { timeoutMs })
  t.deepEqual(deleted, [{ id: 'rng', path: '/machine/peripheral/rng' }])
  t.notRegex(await shell(vm, 'ls /sys/bus/pci/devices'), /00:02\.0/)
})

test.serial(
  'the monitor plugs a disk in, and a mounted one stays until the guest lets go',
  async (t) => {
    await withFolder(async (folder) => {
      const file = ext4Disk(folder, 'disk', 16)
      const path = join(folder, 'monitor')
      const options = ['-monitor', `unix:${path},server=on,wait=off`]
      const args = [...bootArguments({ memoryMib: 256, initrd: guestFiles.diskInitrd }), ...options]
      await withGuest(args, async (guest) => {
        const monitor = await humanMonitor(path)
        try {
          t.is(await monitor.ask(`drive_add 0 if=none,id=d,format=qcow2,file=${file}`), 'OK\n')
          t.is(await monitor.ask('device_add virtio-blk-pci,drive=d,id=disk'), '')
          await guest.shell('until [ -b /dev/vda ]; do sleep 0.1; done')
          await guest.shell('mkdir -p /mnt && mount -t ext4 /dev/vda /mnt && echo kept > /mnt/file')
          await refusals(t, monitor)
          t.regex(await monitor.ask('info block'), /^d:/m)
          t.is(await monitor.ask('device_del disk'), '')
          // Linux lets go of a disk although it is mounted; what is written from then on is lost.
          await guest.shell('until ! [ -b /dev/vda ]; do sleep 0.1; done')
          t.regex(await guest.shell('echo lost > /mnt/other; sync; umount /mnt'), /./s)
          // Its drive goes with it; those of the machine stay.
          while (/^d:/m.test(await monitor.ask('info block'))) continue
          t.regex(await monitor.ask('device_del disk'), /Device 'disk' not found/)
        } finally {
          monitor.close()
        }
        guest.type('poweroff -f\n')
        t.is((await guest.end()).code, 0)
      })
    })
  },
)

async function refusals(t: ExecutionContext, monitor: HumanMonitor): Promise<void> {
  for (const [line, answer] of [
    ['device_add virtio-rng-pci,id=disk', /^Error: Duplicate device ID 'disk'/],
    ['device_add virtio-rng-pci,addr=2', /^Error: PCI: slot 2 function 0 not available/],
    ['device_add virtio-rng-pci,addr=2.1', /^Error: PCI: slot 2 function 0 already occupied/],
    ['device_add VGA', /^Error: Parameter 'driver' expects a pluggable device type/],
    ['device_add ide-hd,drive=d', /^Error: Bus 'ide\.0' does not support hotplugging/],
    ['device_add virtio-blk-pci,drive=d', /^Error: Drive 'd' is already in use by disk/],
    ['drive_del d', /^Error: Node d is in use by disk/],
    ['device_del nothing', /^Error: Device 'nothing' not found/],
  ] as const) {
    t.regex(await monitor.ask(line), answer)
  }
}

interface HumanMonitor {
  /** Runs a line and resolves to what it printed. */
  ask(line: string): Promise<string>
  close(): void
}

async function humanMonitor(path: string): Promise<HumanMonitor> {
  const socket = connect(path)
  let unread = ''
  let wake = (): void => {}
  socket.setEncoding('latin1').on('data', (text: string) => {
    unread += text
    wake()
  })
  const prompt = async (): Promise<string> => {
    for (;;) {
      const at = unread.indexOf('(qemu) ')
      if (at >= 0) {
        const seen = unread.slice(0, at)
        unread = unread.slice(at + 7)
        return seen.replaceAll('\r', '')
      }
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }
  await prompt()
  return {
    async ask(line) {
      socket.write(`${line}\n`)
      const seen = await prompt()
      return seen.slice(seen.indexOf('\n') + 1)
    },
    close: () => socket.destroy(),
  }
}

test.serial('QMP plugs a disk into a port, and tells when it is gone', async (t) => {
  await withFolder(async (folder) => {
    const filename = ext4Disk(folder, 'disk', 16)
    const path = join(folder, 'qmp')
    const port = ['-device', 'pcie-root-port,id=p1,chassis=1,slot=1']
    const options = ['-M', 'q35', ...byPorts, ...port]
    const args = [
      ...bootArguments({ memoryMib: 256, initrd: guestFiles.diskInitrd }),
      ...options,
      '-qmp',
      `unix:${path},server=on,wait=off`,
    ]
    await withGuest(args, async (guest) => {
      const qmp = await machineProtocol(path)
      try {
        await qmp.ask('qmp_capabilities')
        await qmp.ask('blockdev-add', { driver: 'file', 'node-name': 'f', filename })
        await qmp.ask('blockdev-add', { driver: 'qcow2', 'node-name': 'q', file: 'f' })
        await t.throwsAsync(
          qmp.ask('device_add', { driver: 'virtio-blk-pci', id: 'disk', drive: 'q' }),
          { message: /^GenericError: Bus 'pcie\.0' does not support hotplugging/ },
        )
        const device = { driver: 'virtio-blk-pci', id: 'disk', drive: 'q', bus: 'p1' }
        await qmp.ask('device_add', device)
        await guest.shell('until [ -b /dev/vda ]; do sleep 0.1; done')
        await guest.shell('mkdir -p /mnt && mount -t ext4 /dev/vda /mnt && echo kept > /mnt/file')
        await guest.shell('umount /mnt')
        await t.throwsAsync(qmp.ask('blockdev-del', { 'node-name': 'q' }), { message: /in use/ })
        await qmp.ask('device_del', { id: 'disk' })
        await t.throwsAsync(qmp.ask('device_del', { id: 'disk' }), {
          message: /^GenericError: Device disk is already in the process of unplug/,
        })
        await qmp.event('DEVICE_DELETED', 'disk')
        await qmp.ask('blockdev-del', { 'node-name': 'q' })
        await qmp.ask('blockdev-del', { 'node-name': 'f' })
        t.deepEqual(inspect(folder, filename), [])
        await t.throwsAsync(qmp.ask('device_del', { id: 'disk' }), { message: /^DeviceNotFound/ })
        await qmp.ask('quit')
      } finally {
        qmp.close()
      }
      t.is((await guest.end()).code, 0)
    })
  })
})

test.serial('a network card is plugged into a port of q35, used and removed, twice', async (t) => {
  await withFolder(async (folder) => {
    const path = join(folder, 'qmp')
    const options = [
      '-M',
      'q35',
      '-device',
      'pcie-root-port,id=p1,chassis=1,slot=1',
      '-nic',
      'none',
    ]
    const qmpOption = ['-qmp', `unix:${path},server=on,wait=off`]
    const boot = bootArguments({ memoryMib: 256, initrd: guestFiles.diskInitrd })
    await withGuest([...boot, ...options, ...qmpOption], async (guest) => {
      const qmp = await machineProtocol(path)
      try {
        await qmp.ask('qmp_capabilities')
        for (const round of [1, 2]) {
          await qmp.ask('netdev_add', { type: 'user', id: 'lan', net: `10.${round}.0.0/24` })
          const card = { driver: 'virtio-net-pci', id: 'card', netdev: 'lan', bus: 'p1' }
          await qmp.ask('device_add', card)
          await guest.shell('until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done')
          await guest.shell(`ip addr add 10.${round}.0.15/24 dev eth0; ip link set eth0 up`)
          t.regex(await guest.shell(`ping -c 2 10.${round}.0.2`), / 0% packet loss/)
          await qmp.ask('device_del', { id: 'card' })
          await qmp.event('DEVICE_DELETED', 'card')
          t.notRegex(await guest.shell('ls /sys/class/net'), /eth0/)
          await qmp.ask('netdev_del', { id: 'lan' })
        }
        await qmp.ask('quit')
      } finally {
        qmp.close()
      }
      t.is((await guest.end()).code, 0)
    })
  })
})

for (const { name, type, buses } of boards) {
  test.serial(`firmware leaves ${name} ready for devices that come later`, async (t) => {
    await withFolder(async (folder) => {
      const path = join(folder, 'qmp')
      const port = type === 'q35' ? ['-device', 'pcie-root-port,id=p1,chassis=1,slot=1'] : []
      const hotplug = name === 'q35 by its ports' ? byPorts : []
      const drive = `file=${guestFiles.bootDisk},if=virtio,snapshot=on`
      const machine = [
        '-M',
        type,
        '-L',
        guestFiles.firmware,
        '-m',
        '256',
        '-nographic',
        '-vga',
        'none',
      ]
      const qmpOption = ['-qmp', `unix:${path},server=on,wait=off`]
      const args = [...machine, ...hotplug, ...port, '-drive', drive, ...qmpOption]
      await withGuest(args, async (guest) => {
        const qmp = await machineProtocol(path)
        try {
          await qmp.ask('qmp_capabilities')
          const disk = { driver: 'raw', file: { driver: 'file', filename: guestFiles.kernel } }
          await qmp.ask('blockdev-add', { ...disk, 'node-name': 'n', 'read-only': true })
          const device = { driver: 'virtio-blk-pci', id: 'late', drive: 'n', ...on(buses[0]) }
          await qmp.ask('device_add', device)
          await guest.shell('until [ -b /dev/vdb ]; do sleep 0.1; done')
          const sum = createHash('md5').update(readFileSync(guestFiles.kernel).subarray(0, 1 << 20))
          t.regex(
            await guest.shell('head -c 1048576 /dev/vdb | md5sum'),
            new RegExp(sum.digest('hex')),
          )
          await qmp.ask('device_del', { id: 'late' })
          await qmp.event('DEVICE_DELETED', 'late')
          t.notRegex(await guest.shell('ls /sys/block'), /vdb/)
        } finally {
          qmp.close()
        }
        guest.type('poweroff -f\n')
        t.is((await guest.end()).code, 0)
      })
    })
  })
}
