import time, os
def test_try(project):
    for n in range(2):
        t=time.time(); e = project.materialize("canary-10"); print(e.code, time.time()-t); print(e.text[-6000:])
    print(project.query("select * from public.asset_check_executions"))
    print(project.stage("canary-10"))
    t=time.time(); e = project.forge("run","--stage","ramp-50"); print(e.code, time.time()-t); print(e.text[-6000:])
    print(project.query("select * from forge.interactions limit 3"))
    print([str(p) for p in project.output.rglob("*")])
