import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { findCommand, isExecutable, machinesOf } from '../driver/emulator.ts'
import { bad, note, ok } from './finding.ts'
import type { Finding, Host } from './finding.ts'

/** The emulator and the command that makes images. */
export async function examinePrograms(given: string | undefined): Promise<Finding[]> {
  const emulator = given ?? findCommand('qemu-kvm')
  const install = "install the package 'qemu-vmm' beside this one"
  const findings: Finding[] = []
  if (emulator === undefined) {
    findings.push(
      bad('emulator', 'there is no qemu-kvm in the path', `${install}, or name one: --emulator`),
    )
  } else if (!isExecutable(emulator)) {
    findings.push(
      bad('emulator', `'${emulator}' cannot be executed`, `${install}, or chmod +x '${emulator}'`),
    )
  } else {
    try {
      const machines = await machinesOf(emulator)
      const names = machines.map(({ name, alias }) => alias ?? name).slice(0, 5)
      findings.push(ok('emulator', `'${emulator}' with the machines ${names.join(', ')}`))
    } catch (error) {
      findings.push(
        bad('emulator', (error as Error).message, `run it: '${emulator}' -machine help`),
      )
    }
  }
  const images = findCommand('qemu-img')
  findings.push(
    images === undefined
      ? note('images', 'there is no qemu-img: volumes of storage pools cannot be made', install)
      : ok('images', `'${images}'`),
  )
  return findings
}

/** Firmware by what it is for: one of its files is enough. */
const FIRMWARE = [
  {
    subject: 'BIOS',
    files: ['qemu/bios-256k.bin', 'seabios/bios-256k.bin', 'qemu-firmware/bios-256k.bin'],
    missing: 'SeaBIOS is not there: only domains with <kernel> or UEFI start',
    remedy: 'Debian and Ubuntu: apt install seabios; Fedora: dnf install seabios-bin',
  },
  {
    subject: 'UEFI',
    files: [
      'OVMF/OVMF_CODE.fd',
      'OVMF/OVMF_CODE_4M.fd',
      'edk2/ovmf/OVMF_CODE.fd',
      'edk2/x64/OVMF_CODE.4m.fd',
      'qemu/edk2-x86_64-code.fd',
    ],
    missing: 'OVMF is not there: domains with a <loader> of UEFI need it',
    remedy: 'Debian and Ubuntu: apt install ovmf; Fedora: dnf install edk2-ovmf',
  },
] as const

/** Firmware of guests where distributions have it. */
export function examineFirmware({ root }: Host): Finding[] {
  return FIRMWARE.map(({ subject, files, missing, remedy }) => {
    const found = files.find((file) => existsSync(join(root, '/usr/share', file)))
    return found === undefined ? note(subject, missing, remedy) : ok(subject, `/usr/share/${found}`)
  })
}
