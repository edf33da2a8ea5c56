// A whole Debian: mmdebstrap installs it as a system administrator would, with Debian's kernel, systemd and an SSH server.
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Failure, log, must, run } from '../lib/run.mjs'
import { efiSystem } from './efi.mjs'
import { bootableDisk, grubMenu } from './grub.mjs'
import { codename, mmdebstrap } from './programs.mjs'

/** The kernel of each architecture. */
const kernels = { amd64: 'linux-image-amd64', i386: 'linux-image-686-pae' }
/** What is installed, beside what is essential. */
const packages = [
  'zstd',
  'systemd-sysv',
  'udev',
  'kmod',
  'login',
  'procps',
  'iproute2',
  'iputils-ping',
  'systemd-resolved',
  'openssh-server',
  'iperf3',
  'fio',
  'less',
]
/** Drivers of the disks that machines have: all others would only make the initial RAM disk large. */
const drivers = ['virtio_pci', 'virtio_blk', 'ata_piix', 'ahci', 'sd_mod', 'ext4', 'crc32c_generic']
const sizeMib = 2048
/** Both screens, the kernel's messages on the serial one, where the first getty is, too. */
// Graphics drivers would take the screen from the text that tests wait for.
const commandLine = 'root=LABEL=root ro quiet nomodeset console=tty0 console=ttyS0'

/** Runs before the kernel's package makes its initial RAM disk. */
const before = `set -e
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"
echo MODULES=list >"$1/etc/initramfs-tools/conf.d/guest"
printf '%s\\n' ${drivers.join(' ')} >"$1/usr/share/initramfs-tools/modules.d/guest"
`
/**
 * Runs in the end. Root has no password; the id keeps the first boot from asking questions. Names of network cards tell
 * their places, which differ between machines: any gets its address by DHCP. A machine without one must not wait for it, and
 * none must look for upgrades by itself: apt has no sources until it is given some. The keys of the SSH server were made by
 * its installation.
 */
const after = `set -e
echo guest >"$1/etc/hostname"
echo 127.0.0.1 localhost guest >"$1/etc/hosts"
echo LABEL=root / ext4 errors=remount-ro 0 1 >"$1/etc/fstab"
printf '[Match]\\nName=en*\\n[Network]\\nDHCP=yes\\n' >"$1/etc/systemd/network/ethernet.network"
chroot "$1" systemctl enable systemd-networkd systemd-resolved
chroot "$1" systemctl disable systemd-networkd-wait-online
chroot "$1" systemctl mask apt-daily.timer apt-daily-upgrade.timer
ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"
: >"$1/etc/apt/sources.list"
rm -rf "$1"/etc/apt/sources.list.d/* "$1"/etc/apt/apt.conf.d/99mmdebstrap
echo 6b0b9c3ed0c94fd5a7a1e3fbc3a1d2f4 >"$1/etc/machine-id"
chroot "$1" passwd -d root
rm -rf "$1/var/cache/apt/archives" "$1/var/lib/apt/lists"
`

/** Bound to all that decides what is installed. @param {keyof typeof kernels} architecture */
export const debianRecipe = (architecture) =>
  [kernels[architecture], packages, drivers, before, after].flat().join()

/**
 * Installs this machine's Debian release. Needs root, for the owners of files, and no loop device; and a processor that runs
 * programs of the architecture.
 * @param {string} tarball what is written
 * @param {import('./apt.mjs').Apt} apt
 * @param {keyof typeof kernels} [architecture]
 */
export async function installDebian(tarball, apt, architecture = 'amd64') {
  const release = codename()
  if (release === undefined) throw new Failure('this is not a Debian release')
  if (process.getuid?.() !== 0) throw new Failure('installing Debian for a disk needs root')
  const program = await mmdebstrap(apt)
  if (program === undefined) throw new Failure('mmdebstrap cannot be had')
  log('installing Debian for a disk; this takes minutes')
  const hooks = mkdtempSync(join(tmpdir(), 'guest-hooks-'))
  const unfinished = `${tarball}.part.tar`
  try {
    const options = [
      '--mode=root',
      '--variant=minbase',
      '--quiet',
      `--architectures=${architecture}`,
      // The check needs a program that is not everywhere: a 64-bit processor runs what is for the other architecture.
      '--skip=check/qemu',
      `--include=${[kernels[architecture], ...packages].join(',')}`,
    ]
    for (const [name, text] of Object.entries({ essential: before, customize: after })) {
      writeFileSync(join(hooks, name), text)
      options.push(`--${name}-hook=sh ${join(hooks, name)} "$1"`)
    }
    const onLine = () => {}
    // Of another architecture updates may be incomplete on the way to a mirror; the release itself never is.
    const archive = architecture === 'amd64' ? undefined : apt.archive(release)
    const what = [release, unfinished, ...(archive === undefined ? [] : [archive])]
    const code = await run('perl', [program, ...options, ...what], { onLine })
    if (code !== 0) throw new Failure('mmdebstrap could not install Debian')
    renameSync(unfinished, tarball)
  } finally {
    rmSync(hooks, { recursive: true })
  }
}

/**
 * Writes a raw image, which SeaBIOS and UEFI firmware boot to login prompts on the screen and the first serial port.
 * @param {string} image @param {string} tarball of `installDebian`
 * @param {import('./apt.mjs').Apt} apt
 */
export async function debianDisk(image, tarball, apt) {
  const tree = mkdtempSync(join(tmpdir(), 'guest-debian-'))
  try {
    await must('tar', ['-x', '--numeric-owner', '-p', '-f', tarball, '-C', tree])
    mkdirSync(join(tree, 'boot/grub'), { recursive: true })
    const menu = grubMenu(commandLine, { kernel: '/vmlinuz', initrd: '/initrd.img' })
    writeFileSync(join(tree, 'boot/grub/grub.cfg'), menu)
    await bootableDisk(image, tree, sizeMib, apt, await efiSystem(`${image}.esp`, apt))
  } finally {
    rmSync(tree, { recursive: true })
  }
}
