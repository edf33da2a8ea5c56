import { seclabel } from './common.ts'
import { channel, console, parallel, redirdev, serial, smartcard } from './character.ts'
import { controller } from './controller.ts'
import { disk } from './disk.ts'
import { element, live, many, one, raw, required, text } from './dsl.ts'
import { clock, cpu, features, perf, pm } from './features.ts'
import { audio, graphics, input, sound, video } from './graphics.ts'
import { filesystem, hostdev, lease, redirfilter } from './host-devices.ts'
import { networkInterface } from './interface.ts'
import { os, sysinfo } from './os.ts'
import {
  crypto,
  hub,
  iommu,
  memballoon,
  memoryDevice,
  nvram,
  panic,
  rng,
  shmem,
  tpm,
  vsock,
  watchdog,
} from './other-devices.ts'
import * as s from './scalars.ts'
import * as tune from './tune.ts'
import type { ElementSpec } from './types.ts'

export const devices: ElementSpec = element(
  'devices',
  'the devices',
  {},
  [
    text('emulator', 'the program that runs the domain', s.path),
    many(disk, 'disks'),
    many(controller, 'controllers'),
    many(lease, 'leases'),
    many(filesystem, 'filesystems'),
    many(networkInterface, 'interfaces'),
    many(smartcard, 'smartcards'),
    many(serial, 'serials'),
    many(parallel, 'parallels'),
    many(console, 'consoles'),
    many(channel, 'channels'),
    many(input, 'inputs'),
    many(tpm, 'tpms'),
    many(graphics, 'graphics'),
    many(sound, 'sounds'),
    many(audio, 'audios'),
    many(video, 'videos'),
    many(hostdev, 'hostdevs'),
    many(redirdev, 'redirdevs'),
    one(redirfilter),
    many(hub, 'hubs'),
    many(watchdog, 'watchdogs'),
    one(memballoon),
    many(rng, 'rngs'),
    one(nvram),
    many(panic, 'panics'),
    many(shmem, 'shmems'),
    many(memoryDevice, 'memories'),
    one(iommu),
    one(vsock),
    many(crypto, 'cryptos'),
  ],
  { keepEmpty: true },
)

const event = (name: string, doc: string, ...more: string[]) =>
  text(name, doc, s.oneOf('destroy', 'restart', 'rename-restart', 'preserve', ...more))

const qemuCommandline = element(
  'qemu:commandline',
  'arguments for the emulator, as they are',
  {},
  [
    many(element('qemu:arg', 'an argument', { value: required(s.str) }), 'args'),
    many(
      element('qemu:env', 'a variable of its environment', {
        name: required(s.pattern(/^[A-Za-z_]\w*$/, 'a name of a variable')),
        value: s.str,
      }),
      'env',
    ),
  ],
  { typeName: 'QemuCommandline' },
)

/** The whole document. */
export const domain: ElementSpec = element(
  'domain',
  'a virtual machine',
  { type: required(s.oneOf('qemu', 'kvm', 'hvf')), id: live(s.int()) },
  [
    text(
      'name',
      'name of the domain',
      s.pattern(/^[^/\n]+$/, 'a name without slash and line feed'),
      {
        required: true,
      },
    ),
    text('uuid', 'identity of the domain', s.uuid),
    text('genid', 'identity that changes when the domain is copied', s.uuid),
    text('title', 'a title', s.pattern(/^[^\n]*$/, 'one line')),
    text('description', 'a description', s.str),
    raw('metadata', 'what other programs keep here, by namespace', { verbatim: true }),
    one(tune.maxMemory),
    one(tune.memory),
    one(tune.currentMemory),
    one(tune.blkiotune),
    one(tune.memtune),
    one(tune.memoryBacking),
    one(tune.vcpu),
    one(tune.vcpus),
    text('iothreads', 'how many I/O threads there are', s.uint()),
    one(tune.iothreadids),
    one(tune.defaultiothread),
    one(tune.cputune),
    one(tune.numatune),
    one(tune.resource),
    many(sysinfo, 'sysinfos'),
    text('bootloader', 'a boot loader of the host', s.path),
    text('bootloader_args', 'its arguments', s.str),
    one(os),
    one(tune.idmap),
    one(features),
    one(cpu),
    one(clock),
    event('on_poweroff', 'when the guest powers off'),
    event('on_reboot', 'when the guest reboots'),
    event('on_crash', 'when the guest crashes', 'coredump-destroy', 'coredump-restart'),
    text(
      'on_lockfailure',
      'when locks are lost',
      s.oneOf('poweroff', 'restart', 'pause', 'ignore'),
    ),
    one(pm),
    one(perf),
    one(devices),
    many(seclabel, 'seclabels'),
    one(qemuCommandline, { as: 'qemuCommandline' }),
    raw('keywrap', 'keys, on S/390', { as: 'keywrap' }),
    raw('launchSecurity', 'encrypted guests', { as: 'launchSecurity' }),
  ],
  { typeName: 'DomainDefinition' },
)
