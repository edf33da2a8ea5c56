// Linux on several vCPUs: what it finds, resets, and state that goes on in another machine.
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import { bootArguments, bootTimeoutMs, guestFiles, prompt, withGuest } from '../src/guest.ts'

const timeoutMs = bootTimeoutMs

test.serial('two vCPUs run, are reset by guest and monitor, and end together', async (t) => {
  const args = [...bootArguments({ memoryMib: 256 }), '-cpu', 'max', '-smp', '2']
  await withGuest(args, async (guest) => {
    t.is(await guest.shell('nproc'), '2\n')
    const interrupts = await guest.shell('cat /proc/interrupts')
    t.regex(interrupts, /CPU0\s+CPU1\s*\n/)
    t.regex(interrupts, /LOC:\s+[1-9]\d*\s+[1-9]\d*/, 'both timers tick')
    t.regex(interrupts, /RES:\s+\d+\s+\d+/)
    // Each vCPU computes, and says so itself.
    for (const cpu of [0, 1]) {
      t.is(await guest.shell(`taskset ${1 << cpu} sh -c 'echo $((6 * 7))'`), '42\n')
    }
    guest.type('\u0001c')
    await guest.expect(/\(qemu\) $/)
    guest.type('info cpus\n')
    t.regex(await guest.expect(/\(qemu\) $/), /\* CPU #0:.*\r\n {2}CPU #1:/s)
    guest.type('\u0001c\n')
    await guest.expect(prompt)
    guest.type('reboot -f\n')
    await guest.expect(/up after/)
    await guest.expect(prompt)
    t.is(await guest.shell('nproc'), '2\n')
    guest.type('\u0001csystem_reset\n\u0001c')
    await guest.expect(/up after/)
    await guest.expect(prompt)
    t.is(await guest.shell('nproc'), '2\n')
    guest.type('poweroff -f\n')
    t.deepEqual(await guest.end(), { code: 0, signal: null })
  })
})

test.serial('Linux finds sockets, cores and threads as they were given', async (t) => {
  const smp = '-smp sockets=2,cores=2,threads=1'
  const args = [...bootArguments({ memoryMib: 256 }), '-cpu', 'max', ...smp.split(' ')]
  await withGuest(args, async (guest) => {
    t.is(await guest.shell('nproc'), '4\n')
    // Short lines: the shell breaks what it echoes at the width of its terminal.
    guest.type('cd /sys/devices/system/cpu\n')
    await guest.expect(prompt)
    const values = (name: string): Promise<string> => guest.shell(`echo $(cat */topology/${name})`)
    t.is(await values('physical_package_id'), '0 0 1 1\n')
    t.is(await values('core_id'), '0 1 0 1\n')
    guest.type('poweroff -f\n')
    t.deepEqual(await guest.end(), { code: 0, signal: null })
  })
})

test.serial('the state of two busy vCPUs goes on in another machine', async (t) => {
  const config = {
    memory: 128 << 20,
    cpus: 2,
    accel: 'tcg',
    kernel: guestFiles.kernel,
    initrd: guestFiles.initrd,
    append: 'console=ttyS0 quiet',
  } as const
  await using vm = await VirtualMachine.start(config)
  await vm.expect(/up after [^]* # /, { timeoutMs })
  vm.type('for cpu in 1 2; do taskset $cpu sh -c "while :; do :; done" & done\n')
  await vm.expect(' # ', { timeoutMs })
  const state = structuredClone(await vm.saveState())
  t.is(state.vcpus.length, 2)
  await vm.pause()

  await using other = await VirtualMachine.start({ ...config, startPaused: true })
  await other.loadState(state)
  await other.resume()
  await t.throwsAsync(other.loadState({ ...state, vcpus: state.vcpus.slice(1) }), {
    code: 'E_STATE',
    message: /has 1 vCPUs; it says of 2 processors/,
  })
  for (const machine of [other, vm]) {
    if (machine === vm) await vm.resume()
    machine.type('nproc; cat /proc/loadavg | cut -d/ -f1; kill %1 %2; dmesg | grep -ci stall\n')
    t.regex(await machine.expect(/\n0\r\n[^]* # /, { timeoutMs }), /\n2\r\n/)
  }
})
