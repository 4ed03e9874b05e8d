import os, subprocess, pytest, sys
from toolkit.assets import load_recipe
from toolkit.finetune.cells import InProcess
def test_disk(fewlabel, working_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(load_recipe("label_efficiency"), "ProcessPoolExecutor", lambda *a, **k: InProcess())
    m = tmp_path/"small"; m.mkdir()
    subprocess.run(["mount","-t","tmpfs","-o","size=16k","tmpfs",str(m)],check=True)
    try:
        size=16
        last=None
        while size<8000:
            o = fewlabel("run", "domain", "--config", "tiny.yaml", f"output={m}/run")
            if o.exit_code==0: print(size, "DONE"); break
            lines=[l for l in o.stderr.splitlines()[-1:]]
            print(size, o.exit_code, type(o.exception).__name__, repr(str(o.exception))[:300] if not isinstance(o.exception, SystemExit) else "", lines)
            if not isinstance(o.exception, SystemExit):
                import traceback; tb="".join(traceback.format_exception(o.exception)).splitlines()
                print("\n".join([l for l in tb if "/work/main" in l or "site-packages" in l][-6:]))
            sys.stdout.flush()
            size+= 24 if size<100 else 120
            subprocess.run(["mount","-o",f"remount,size={size}k",str(m)],check=True)
        subprocess.run(["find",str(m),"-name",".*"])
        subprocess.run(["find",str(m),"-name","*partial*"])
    finally:
        subprocess.run(["umount","-l",str(m)])
