// The programs that benchmarks and tests compare with or connect from: Debian's QEMU, its image tools, libvirt's daemon and clients.
// All run without them: benchmarks have no ratio then, and tests say so and look at less.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { capture, log, run, script } from './lib/run.mjs'

const program = 'qemu-system-x86_64'
// Not qemu-img: a command of that name is ours, and may come first in the path.
const imageTool = 'qemu-io'
// libvirt's daemon is started by the tests that use it, and its schemas come with it.
const daemon = '/usr/sbin/libvirtd'
const client = 'virsh'
// What guests measure their network against.
const network = 'iperf3'
// A network in a process of its own, which guests are connected to.
const networkProcess = 'passt'
// Debian's own interpreter is the one that its packages are for.
const python = '/usr/bin/python3'
const packages = [
  'qemu-system-x86',
  'qemu-utils',
  'libvirt-daemon-system',
  'libvirt-clients',
  'libxml2-utils',
  'python3-libvirt',
  'iperf3',
  'passt',
]
// libvirt's program for desktops, and what a test uses it with: a screen that nobody sees, a session, and what reads screens.
// It brings much along, and virt-install, virt-xml and virt-clone.
const desktop = ['virt-manager', 'xvfb', 'dbus', 'gir1.2-atspi-2.0']
// What programs in Go speak to libvirt with.
const goLibrary = '/usr/share/gocode/src/github.com/digitalocean/go-libvirt'
const go = ['golang-github-digitalocean-go-libvirt-dev']
const desktopLibrary =
  "import gi; gi.require_version('Atspi', '2.0'); from gi.repository import Atspi"

/**
 * Makes sure that the peer is there, if this machine lets us.
 * @returns {Promise<string | undefined>} its version
 */
export async function peers() {
  const version = () => capture(program, ['--version'])?.split('\n')[0]
  const complete = () =>
    version() !== undefined &&
    capture(imageTool, ['--version']) !== undefined &&
    capture(daemon, ['--version']) !== undefined &&
    capture(client, ['--version']) !== undefined &&
    capture(network, ['--version']) !== undefined &&
    capture(networkProcess, ['--version']) !== undefined &&
    capture('xmllint', ['--version']) !== undefined &&
    capture(python, ['-c', 'import libvirt']) !== undefined
  const hasDesktop = () =>
    capture('virt-manager', ['--version']) !== undefined &&
    capture('sh', ['-c', 'command -v Xvfb']) !== undefined &&
    capture('dbus-run-session', ['--version']) !== undefined &&
    capture(python, ['-c', desktopLibrary]) !== undefined
  if (!complete()) {
    const what = `one of ${program}, ${imageTool}, ${daemon}, ${client}, ${network}, ${networkProcess}, xmllint and python3-libvirt`
    await install(packages, `${what} is missing, so there is less to compare with`)
  }
  if (!hasDesktop())
    await install(desktop, 'virt-manager is missing or nobody can look at it, so it is not tested')
  const hasGo = capture('go', ['version']) !== undefined
  if (process.env['LONG'] !== undefined && !(hasGo && existsSync(goLibrary))) {
    await install(
      hasGo ? go : ['golang-go', ...go],
      'Go or go-libvirt is missing, so it is not tested',
    )
  }
  return version()
}

/**
 * Installs packages of Debian if this machine lets us, and says what is lacking if not.
 * @param {string[]} names
 * @param {string} without
 */
async function install(names, without) {
  if (process.getuid?.() !== 0 || capture('apt-get', ['--version']) === undefined) {
    log(`${without}. On Debian, as root:`)
    log(`  apt-get install --no-install-recommends ${names.join(' ')}`)
    return
  }
  log(`installing ${names.join(' ')}`)
  const command = ['install', '-y', '-qq', '--no-install-recommends', ...names]
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  if ((await run('apt-get', command, { env })) === 0) return
  await run('apt-get', ['update', '-qq'], { env })
  if ((await run('apt-get', command, { env })) !== 0) log(without)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await script(async () => {
    const version = await peers()
    if (version !== undefined) log(version)
    return version === undefined ? 1 : 0
  })
}
