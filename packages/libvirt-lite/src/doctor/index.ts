import { userInfo } from 'node:os'
import { examineControlGroups } from './control-groups.ts'
import { bad, note, ok } from './finding.ts'
import type { Finding, Host } from './finding.ts'
import { examineState } from './folders.ts'
import { examineKvm } from './kvm.ts'
import { examineFiles, examineMemory } from './memory.ts'
import { examineFirmware, examinePrograms } from './programs.ts'

export type { Finding, Host } from './finding.ts'

/** The oldest Node.js that the package runs on. */
const NODE = [20, 19] as const

export interface DoctorOptions {
  stateDir?: string | undefined
  emulator?: string | undefined
}

/** The host that this process is on. */
export function thisHost(): Host {
  const uid = process.geteuid!()
  return {
    root: '',
    uid,
    groups: [process.getegid!(), ...process.getgroups!()],
    user: nameOf(uid),
    arch: process.arch,
  }
}

function nameOf(uid: number): string {
  try {
    return userInfo().username
  } catch {
    // In a container a user need not have a name.
    return `user ${uid}`
  }
}

/** Looks at all that domains need. */
export async function examine(
  { stateDir, emulator }: DoctorOptions,
  host: Host = thisHost(),
): Promise<Finding[]> {
  return [
    node(process.versions.node),
    rights(host),
    examineKvm(host),
    ...(await examinePrograms(emulator)),
    ...examineFirmware(host),
    ...examineMemory(host),
    examineFiles(host),
    examineControlGroups(host),
    ...(stateDir === undefined ? [] : examineState(stateDir, host)),
  ]
}

function node(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const isOld = major < NODE[0] || (major === NODE[0] && minor < NODE[1])
  return isOld
    ? bad('Node.js', `${version} is too old`, `install ${NODE.join('.')} or newer`)
    : ok('Node.js', version)
}

function rights({ uid, user }: Host): Finding {
  return uid === 0
    ? note(
        'rights',
        'emulators would run as root, and guests that break out of them with all rights',
        'run the daemon as a user of its own: it needs no rights but its folder',
      )
    : ok('rights', `${user} needs no others: networks and disks work without root`)
}

const MARKS = { ok: 'ok  ', note: 'note', bad: 'bad ' } as const

/** As it is shown: a line for each, and below it what to do. */
export function report(findings: readonly Finding[]): string {
  return findings
    .map(({ verdict, subject, text, remedy }) => {
      const line = `${MARKS[verdict]}  ${subject}: ${text}\n`
      return remedy === undefined ? line : `${line}      remedy: ${remedy}\n`
    })
    .join('')
}
