import torch, trellis_sparse as sp, sys, os, time
torch.manual_seed(0)
mode=sys.argv[1]
def oracle(f,w,b,n):
    t=w.double().flatten(1,3); pad=torch.cat([f.double(),f.new_zeros((1,f.shape[1])).double()])
    o=torch.zeros(len(n),w.shape[0],dtype=torch.double,device=f.device)
    for k in range(n.shape[1]): o+=pad[n[:,k].long()]@t[:,k].T
    return o if b is None else o+b.double()
def case(N,ci,co,dt,k=3,side=24,bias=True):
    c=torch.randperm(side**3)[:N]; co4=torch.stack([c*0,c//side**2,c//side%side,c%side],1).int()
    n=sp.neighbor_map(co4.cuda(),(1,side,side,side),k)
    if k==3 and mode=='a': assert torch.equal(n.cpu(),sp.neighbor_map(co4,(1,side,side,side),k))
    f=torch.randn(len(co4),ci,device='cuda').to(dt); w=(torch.randn(co,k,k,k,ci,device='cuda')/(ci*8)**.5).to(dt); b=torch.randn(co,device='cuda').to(dt) if bias else None
    return f,w,b,n
def convs():
  for dt,prec in ((torch.float16,'highest'),(torch.bfloat16,'highest'),(torch.float32,'highest'),(torch.float32,'high'),(torch.float64,'highest')):
    torch.set_float32_matmul_precision(prec)
    res=[]
    for (N,ci,co,k) in ((1,8,8,3),(65,64,64,3),(129,64,256,3),(9000,64,64,3),(3000,72,136,3),(500,5,3,3),(3000,320,264,3),(700,16,24,5)):
        try:
            f,w,b,n=case(N,ci,co,dt,k); y=sp.submanifold_conv3d(f,w,b,n); r=oracle(f,w,b,n); e=float((y.double()-r).norm()/r.norm())
            res.append(f'{N},{ci},{co},{k}: {e:.1e}{"" if torch.equal(y,sp.submanifold_conv3d(f,w,b,n)) else " DIFFERS"}')
        except Exception as x: res.append(f'{N},{ci},{co},{k}: '+repr(x)[:200])
    print(str(dt)[6:],prec,'; '.join(res),flush=True)
  torch.set_float32_matmul_precision('highest')
if mode=='a':
    os.environ['TRELLIS_CUDA']='mma'
    convs()
    for dt in (torch.float16,torch.float32):
        f,w,b,n=case(3000,48,40,dt)
        for plan in (None,sp.conv_plan(n)):
            L=[t.clone().requires_grad_() for t in (f,w,b)]; R=[t.double().clone().requires_grad_() for t in (f,w,b)]
            y=sp.submanifold_conv3d(*L,n,plan=plan); g=torch.randn_like(y); y.backward(g); oracle(*R,n).backward(g.double())
            print('grad',dt,[f'{float((a.grad.double()-r.grad).norm()/r.grad.norm()):.1e}' for a,r in zip(L,R)],flush=True)
    from pathlib import Path
    sys.argv=['x']; import sparse as B
    lv=B.pyramid(Path(os.environ['FIXTURES'])/'dragon.npz',1024)
    torch.save(lv,'/tmp/lv.pt'); print({k:len(v) for k,v in lv.items()})
    B.others(lv[1],1024,torch.device('cuda'),{})
    c=lv[1].cuda(); ix=sp.voxel_index(c,(1,1024,1024,1024)); rows=torch.arange(len(c),device='cuda'); pts=c[None,rows,1:]+torch.rand(1,len(c),3,device='cuda'); ft=torch.randn(len(c),6,device='cuda')
    print('index',B.repeated(lambda:sp.voxel_index(c,(1,1024,1024,1024)),c.device,10),'query',B.repeated(lambda:sp.grid_sample_3d(ft,c,(1,1024,1024,1024),pts,index=ix),c.device,10),'map only',B.repeated(lambda:sp.neighbor_map(c,(1,1024,1024,1024),index=ix),c.device,10))
    for k,v in lv.items():
        v=v.cuda(); s=1024//k; n=sp.neighbor_map(v,(1,s,s,s)); 
        print(k,len(v),'map',B.repeated(lambda:sp.neighbor_map(v,(1,s,s,s)),c.device,10),'plan',B.repeated(lambda:sp.conv_plan(n),c.device,10),flush=True)
        C=B.CHANNELS[k]; f=torch.randn(len(v),C,device='cuda',dtype=torch.float16); w=torch.randn(C,3,3,3,C,device='cuda',dtype=torch.float16); pl=sp.conv_plan(n)
        print('   mma conv',B.repeated(lambda:sp.submanifold_conv3d(f,w,None,n,plan=pl),c.device,5),flush=True)
if mode=='b':
    convs()
