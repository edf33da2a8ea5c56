// npm run demo: builds everything and boots Linux to a shell, through the published qemu-kvm command: two processors,
// and the root file system on a qcow2 disk over virtio-blk.
// With a terminal the shell is yours. Without one, standard input is a script that the guest's shell runs:
//   printf 'uname -r\npoweroff -f\n' | npm run --silent demo
// KERNEL, INITRD, MEMORY (MiB) and APPEND of the environment replace the defaults; with a kernel, initial RAM disk or
// busybox of your own there is no disk. What you change on the disk stays, except by a script.
import { spawn } from 'node:child_process'
import { build } from './build.mjs'
import { diskGuest, initrdGuest, kernelGuest } from './guests.mjs'
import { Typist } from './lib/typist.mjs'
import { bin } from './lib/paths.mjs'
import { script } from './lib/run.mjs'

await script(async () => {
  await build()
  const { KERNEL, INITRD, BUSYBOX, MEMORY, APPEND } = process.env
  const interactive = process.stdin.isTTY === true
  const args = ['-m', MEMORY ?? '512', '-smp', '2', '-nographic', '-no-reboot']
  args.push('-kernel', KERNEL || (await kernelGuest()).kernel)
  const console = interactive ? 'console=ttyS0' : 'console=ttyS0 quiet'
  if (KERNEL || INITRD || BUSYBOX) {
    args.push('-initrd', INITRD || (await initrdGuest()).initrd, '-append', APPEND ?? console)
  } else {
    const { initrd, disk } = await diskGuest()
    const drive = `file=${disk.replaceAll(',', ',,')},if=virtio`
    args.push('-initrd', initrd, '-append', APPEND ?? `${console} root=/dev/vda`)
    args.push('-drive', interactive ? drive : `${drive},snapshot=on`)
  }
  return await (interactive ? runWithTerminal(args) : runScript(args))
})

/** @param {readonly string[]} args @returns {Promise<number>} */
function runWithTerminal(args) {
  process.stderr.write('Booting Linux. Leave with "poweroff -f" in the guest, or with Ctrl-A x.\n')
  // The command owns the terminal: Ctrl-C is a key for the guest, not a signal for this script.
  process.on('SIGINT', () => {})
  return exitOf(spawn(bin('qemu-kvm'), args, { stdio: 'inherit' }))
}

/** @param {readonly string[]} args */
async function runScript(args) {
  const child = spawn(bin('qemu-kvm'), args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const typist = new Typist((text) => child.stdin.write(text))
  // A machine that has gone is seen by its exit; what was typed for it is of no use any more.
  child.stdin.on('error', () => {})
  child.stdout.setEncoding('utf8').on('data', (/** @type {string} */ text) => {
    process.stdout.write(typist.see(text))
  })
  process.stdin.setEncoding('utf8')
  process.stdin.on('data', (/** @type {string} */ text) => typist.add(text))
  process.stdin.on('end', () => typist.finish('poweroff -f\n'))
  const code = await exitOf(child)
  typist.stop()
  process.stdin.destroy()
  return code
}

/** @param {import('node:child_process').ChildProcess} child @returns {Promise<number>} */
function exitOf(child) {
  for (const signal of /** @type {const} */ (['SIGTERM', 'SIGHUP'])) {
    process.on(signal, () => child.kill(signal))
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve(code ?? 128))
  })
}
