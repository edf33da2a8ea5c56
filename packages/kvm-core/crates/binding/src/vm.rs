//! A VM.

use std::sync::Arc;

use kvm_abi::{KvmError, Reader, Writer};
use kvm_irqchip::{IRQCHIP_STATE_BYTES, PitState, Route as IrqRoute, RouteTarget};
use kvm_vm::{ClockData, Resampled, RouteKind, Space, Vm};
use napi::Env;
use napi::bindgen_prelude::{BigInt, Function, Uint8Array};
use napi_derive::napi;

use crate::calls::Handle;
use crate::error::{Result, js};
use crate::host::NativeHost;
use crate::interrupts::{NativeIoEvent, NativeIrqFd, NativeRoute};
use crate::isolate::Isolate;
use crate::memory::{NativeMemory, NativeRam, create_file_ram, create_ram};
use crate::numbers::{byte, integer, quad, word};
use crate::vcpu::NativeVcpu;

/// f64 numbers of a GSI route in the array that crosses the boundary: GSI, 0 for a chip's pin or
/// 1 for a message, then chip and pin or address and data.
const ROUTE_NUMBERS: usize = 4;
/// `sizeof(struct kvm_irqchip)`: chip number, padding, state.
const KVM_IRQCHIP_BYTES: usize = 8 + IRQCHIP_STATE_BYTES;

/// A VM.
#[napi]
pub struct NativeVm {
    vm: Arc<Vm>,
}

impl NativeVm {
    /// The JavaScript side of `vm`.
    pub fn new(vm: Arc<Vm>) -> Self {
        Self { vm }
    }
}

fn space(pio: bool) -> Space {
    if pio { Space::Pio } else { Space::Mmio }
}

#[napi]
impl NativeVm {
    /// Its number in this process.
    #[napi(getter)]
    pub fn id(&self) -> u32 {
        self.vm.id()
    }

    /// Guest physical memory.
    #[napi]
    pub fn memory(&self) -> NativeMemory {
        NativeMemory { vm: self.vm.clone() }
    }

    /// Maps RAM of this backing.
    #[napi]
    pub fn create_ram(&self, size: f64, backing: String) -> Result<NativeRam> {
        create_ram(&self.vm, size, &backing)
    }

    /// RAM in a file.
    #[napi]
    pub fn create_file_ram(&self, size: f64, fd: i32, share: bool) -> Result<NativeRam> {
        create_file_ram(&self.vm, size, fd, share)
    }

    /// `KVM_CREATE_IRQCHIP`.
    #[napi]
    pub fn create_irqchip(&self) -> Result<()> {
        self.vm.create_irqchip().map_err(js)
    }

    /// `KVM_CREATE_PIT2`.
    #[napi]
    pub fn create_pit2(&self, flags: f64) -> Result<()> {
        let flags = word(flags, "flags")?;
        self.vm.irqchip().and_then(|chip| chip.create_pit(flags)).map_err(js)
    }

    /// `KVM_REINJECT_CONTROL`.
    #[napi]
    pub fn reinject_control(&self, on: bool) -> Result<()> {
        self.vm.irqchip().and_then(|chip| chip.set_pit_reinject(on)).map_err(js)
    }

    /// `KVM_SET_GSI_ROUTING`, four numbers per entry.
    #[napi]
    pub fn set_gsi_routing(&self, numbers: &[f64]) -> Result<()> {
        let (entries, _) = numbers.as_chunks::<ROUTE_NUMBERS>();
        let mut routes = Vec::with_capacity(entries.len());
        for &[gsi, msi, a, b] in entries {
            let target = if msi == 0.0 {
                RouteTarget::Irqchip { chip: word(a, "irqchip")?, pin: word(b, "pin")? }
            } else {
                RouteTarget::Msi { addr: integer(a, "addr")?, data: word(b, "data")? }
            };
            routes.push(IrqRoute { gsi: word(gsi, "gsi")?, target });
        }
        self.vm.set_gsi_routing(&routes).map_err(js)
    }

    /// `KVM_IRQ_LINE`.
    #[napi]
    pub fn irq_line(&self, gsi: f64, level: bool) -> Result<()> {
        let gsi = word(gsi, "gsi")?;
        self.vm.irqchip().and_then(|chip| chip.irq_line(gsi, level)).map_err(js)
    }

    /// `KVM_SIGNAL_MSI`.
    #[napi]
    pub fn signal_msi(&self, addr: f64, data: f64) -> Result<u32> {
        let (addr, data) = (integer(addr, "addr")?, word(data, "data")?);
        self.vm.irqchip().and_then(|chip| chip.signal_msi(addr, data)).map_err(js)
    }

    /// The calls that other addons make.
    #[napi]
    pub fn native_calls(&self, env: Env) -> Result<Handle> {
        Handle::new(env.raw(), self.vm.clone())
    }

    /// `KVM_IRQFD`. `notify` is called in this isolate after each acknowledgement.
    #[napi]
    pub fn irqfd(
        &self,
        env: Env,
        gsi: f64,
        resample: bool,
        notify: Option<Function<'_, (), ()>>,
    ) -> Result<NativeIrqFd> {
        let gsi = word(gsi, "gsi")?;
        let tasks = Isolate::of(env.raw())?.tasks.clone();
        let task = notify.map(|f| tasks.add(&f, false)).transpose()?;
        let id = task.as_ref().map(|(_, id)| *id);
        let told = task.map(|(inbox, id)| -> Resampled { Arc::new(move || inbox.post(id)) });
        match self.vm.irqfd(gsi, resample, told) {
            Ok(irqfd) => Ok(NativeIrqFd { irqfd: Some(irqfd), task: id }),
            Err(error) => {
                if let Some(id) = id {
                    tasks.remove(id);
                }
                Err(js(error))
            }
        }
    }

    /// `KVM_IOEVENTFD`.
    #[napi]
    pub fn ioeventfd(
        &self,
        pio: bool,
        addr: f64,
        len: f64,
        datamatch: Option<BigInt>,
        id: f64,
        host: f64,
    ) -> Result<NativeIoEvent> {
        let datamatch = datamatch.map(|value| quad(&value, "datamatch")).transpose()?;
        let (addr, len) = (integer(addr, "addr")?, byte(len, "len")?);
        let (id, host) = (word(id, "id")?, word(host, "host")?);
        let event = self.vm.ioeventfd(space(pio), addr, len, datamatch, id, host).map_err(js)?;
        Ok(NativeIoEvent { open: Some((self.vm.clone(), event)) })
    }

    /// A route; `kind` is 0 for js, 1 posted, 2 latched, 3 ignore. `size` is 0 for writes of all sizes.
    #[napi]
    pub fn route(
        &self,
        pio: bool,
        base: f64,
        len: f64,
        kind: u32,
        size: f64,
        host: f64,
    ) -> Result<NativeRoute> {
        let kind = match kind {
            0 => RouteKind::Js,
            1 => RouteKind::Posted,
            2 => RouteKind::Latched,
            3 => RouteKind::Ignore,
            _ => return Err(js(KvmError::invalid(format!("there is no route kind {kind}")))),
        };
        let (base, len) = (integer(base, "base")?, integer(len, "len")?);
        let size = Some(integer(size, "size")?).filter(|&size| size != 0);
        let host = word(host, "host")?;
        let route = self.vm.route(space(pio), base, len, kind, size, host).map_err(js)?;
        Ok(NativeRoute { open: Some((self.vm.clone(), route)) })
    }

    /// Binds a device host to this isolate.
    #[napi]
    pub fn create_device_host(
        &self,
        env: Env,
        id: f64,
        max_poll_us: f64,
        on_doorbell: Function<'_, (), ()>,
    ) -> Result<NativeHost> {
        NativeHost::open(env, &self.vm, id, max_poll_us, &on_doorbell)
    }

    /// `KVM_GET_IRQCHIP`: a `kvm_irqchip`.
    #[napi]
    pub fn get_irqchip(&self, chip: f64) -> Result<Uint8Array> {
        let chip = word(chip, "chip")?;
        let state = self.vm.irqchip().and_then(|c| c.irqchip_state(chip)).map_err(js)?;
        let mut w = Writer::new();
        w.u32(chip).pad(4).bytes(&state);
        Ok(w.0.into())
    }

    /// `KVM_SET_IRQCHIP`.
    #[napi]
    pub fn set_irqchip(&self, state: &[u8]) -> Result<()> {
        if state.len() != KVM_IRQCHIP_BYTES {
            return Err(js(KvmError::invalid(format!(
                "kvm_irqchip is {KVM_IRQCHIP_BYTES} bytes, not {}",
                state.len()
            ))));
        }
        let mut r = Reader::new(state);
        let chip = r.u32();
        r.skip(4);
        let page = r.array();
        self.vm.irqchip().and_then(|c| c.set_irqchip_state(chip, &page)).map_err(js)
    }

    /// `KVM_GET_PIT2`: a `kvm_pit_state2`.
    #[napi]
    pub fn get_pit2(&self) -> Result<Uint8Array> {
        let state = self.vm.irqchip().and_then(|chip| chip.pit_state()).map_err(js)?;
        Ok(state.to_bytes().to_vec().into())
    }

    /// `KVM_SET_PIT2`.
    #[napi]
    pub fn set_pit2(&self, state: &[u8]) -> Result<()> {
        let state = PitState::from_bytes(state).map_err(js)?;
        self.vm.irqchip().and_then(|chip| chip.set_pit_state(&state)).map_err(js)
    }

    /// RESET of the irqchip: PIC, IOAPIC and PIT as after power-up.
    #[napi]
    pub fn reset_irqchip(&self) -> Result<()> {
        self.vm.irqchip().and_then(|chip| chip.reset()).map_err(js)
    }

    /// `KVM_GET_CLOCK`: clock, realtime, host TSC, flags.
    #[napi]
    pub fn get_clock(&self) -> Result<Vec<BigInt>> {
        let data = self.vm.clock_data().map_err(js)?;
        let flags = u64::from(data.flags);
        Ok([data.clock, data.realtime, data.host_tsc, flags].map(BigInt::from).into())
    }

    /// `KVM_SET_CLOCK`.
    #[napi]
    pub fn set_clock(&self, clock: BigInt, realtime: BigInt, flags: f64) -> Result<()> {
        let data = ClockData {
            clock: quad(&clock, "clock")?,
            flags: word(flags, "flags")?,
            realtime: quad(&realtime, "realtime")?,
            host_tsc: 0,
        };
        self.vm.set_clock_data(&data).map_err(js)
    }

    /// `KVM_CREATE_VCPU`.
    #[napi]
    pub fn create_vcpu(&self, index: f64) -> Result<NativeVcpu> {
        let vcpu = self.vm.create_vcpu(word(index, "index")?).map_err(js)?;
        Ok(NativeVcpu { vcpu })
    }

    /// A vCPU that exists.
    #[napi]
    pub fn vcpu(&self, index: f64) -> Result<NativeVcpu> {
        let vcpu = self.vm.vcpu(word(index, "index")?).map_err(js)?;
        Ok(NativeVcpu { vcpu })
    }

    /// Numbers of the vCPUs.
    #[napi]
    pub fn vcpus(&self) -> Vec<u32> {
        self.vm.vcpus().iter().map(|vcpu| vcpu.id()).collect()
    }

    /// Has `f` called in this isolate when the VM begins to close. Returns a key to forget it by.
    #[napi]
    pub fn on_close(&self, env: Env, f: Function<'_, (), ()>) -> Result<u32> {
        let (inbox, id) = Isolate::of(env.raw())?.tasks.add(&f, false)?;
        self.vm.on_close(Box::new(move || inbox.post(id)));
        Ok(id)
    }

    /// Forgets the function of `on_close`.
    #[napi]
    pub fn forget(&self, env: Env, key: u32) -> Result<()> {
        Isolate::of(env.raw())?.tasks.remove(key);
        Ok(())
    }

    /// Stops everything; `done` is called when no thread is left.
    #[napi]
    pub fn begin_close(&self, env: Env, done: Function<'_, (), ()>) -> Result<()> {
        let (inbox, id) = Isolate::of(env.raw())?.tasks.add(&done, true)?;
        self.vm.begin_close(Box::new(move || inbox.post(id)));
        Ok(())
    }

    /// Frees everything, after `begin_close` has called back.
    #[napi]
    pub fn finish_close(&self, env: Env) -> Result<()> {
        self.vm.finish_close();
        Isolate::of(env.raw())?.disown(self.vm.id());
        Ok(())
    }
}
