import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { note, ok } from './finding.ts'
import type { Finding, Host } from './finding.ts'

const SUBJECT = 'KVM'
const OTHERWISE = "guests of type 'qemu' run on the software engine meanwhile, slower"

/** Whether guests can run on the host's processor, or why not. */
export function examineKvm({ root, uid, groups, user, arch }: Host): Finding {
  if (arch !== 'x64') {
    return note(
      SUBJECT,
      `the processor is ${arch}; guests are x86-64`,
      `use a host of that kind; ${OTHERWISE}`,
    )
  }
  const cpu = text(join(root, '/proc/cpuinfo'))
  const flags = /^flags\s*: (.*)$/m.exec(cpu)?.[1]?.split(' ') ?? []
  const extension = ['vmx', 'svm'].find((flag) => flags.includes(flag))
  if (extension === undefined) {
    return flags.includes('hypervisor')
      ? note(
          SUBJECT,
          'this host is a virtual machine itself, and its hypervisor does not pass virtualization on (no vmx or svm)',
          `there, turn on nested virtualization (kvm_intel or kvm_amd with nested=1) and give this machine the processor "host-passthrough"; ${OTHERWISE}`,
        )
      : note(
          SUBJECT,
          'the processor has no virtualization, or it is turned off (no vmx or svm)',
          `turn on VT-x or AMD-V (SVM) in the setup of the firmware; ${OTHERWISE}`,
        )
  }
  const module = extension === 'vmx' ? 'kvm_intel' : 'kvm_amd'
  const device = join(root, '/dev/kvm')
  const stats = statSync(device, { throwIfNoEntry: false })
  if (stats === undefined) {
    const isLoaded = new RegExp(`^${module} `, 'm').test(text(join(root, '/proc/modules')))
    return isLoaded
      ? note(
          SUBJECT,
          `the module ${module} is loaded, and there is no /dev/kvm`,
          `in a container, give it the device (--device /dev/kvm); else: mknod /dev/kvm c 10 232; ${OTHERWISE}`,
        )
      : note(
          SUBJECT,
          `there is no /dev/kvm: the module ${module} is not loaded`,
          `as root: modprobe ${module}; if that fails, dmesg tells why; ${OTHERWISE}`,
        )
  }
  const shift = uid === stats.uid ? 6 : groups.includes(stats.gid) ? 3 : 0
  if (uid !== 0 && ((stats.mode >> shift) & 6) !== 6) {
    const mode = (stats.mode & 0o777).toString(8)
    return note(
      SUBJECT,
      `${user} may not open /dev/kvm (mode ${mode}, user ${stats.uid}, group ${stats.gid})`,
      `as root: usermod -aG kvm ${user}, then log in again; ${OTHERWISE}`,
    )
  }
  return ok(SUBJECT, `guests of type 'kvm' run on the processor (${module})`)
}

/** What a file says; nothing where there is none. */
export function text(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
