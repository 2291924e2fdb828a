/* Loaded before user-mode-linux (LD_PRELOAD), so that it runs where processors have AMX (Sapphire Rapids and later).
 *
 * A guest's kernel keeps the first 2696 bytes of a process's extended registers (HOST_FP_SIZE in arch/x86/um), all
 * that there was up to AVX-512, and writes these back. The machine's kernel takes a whole state only
 * (xstateregs_set(), EFAULT), and with AMX this is four times as long: no guest gets beyond its first process. What
 * is missing is filled with zeros: the registers of AMX as they are before their first use. No process in a guest
 * ever uses them, since it would have to ask for that (ARCH_REQ_XCOMP_PERM), and a guest's kernel refuses it. Linux
 * 6.13 asks for the size itself ("um: switch to regset API and depend on XSTATE"); Debian's is older.
 */

enum { PTRACE_GETREGSET = 0x4204, PTRACE_SETREGSET = 0x4205, NT_X86_XSTATE = 0x202, MOST = 65536 };

typedef unsigned long size_t;
typedef long call(int request, int pid, void *address, void *data);

struct iovec {
	char *base;
	size_t length;
};

void *dlsym(void *handle, const char *name);
#define RTLD_NEXT ((void *)-1L)

static call *next;
static char whole[MOST];
static size_t size;

/* How long a whole state is here; 0 if this cannot be told. */
static size_t whole_size(int pid)
{
	struct iovec all = {whole, MOST};
	size_t position;

	if (next(PTRACE_GETREGSET, pid, (void *)NT_X86_XSTATE, &all) < 0)
		return 0;
	for (position = 0; position < all.length; position++)
		whole[position] = 0;
	return all.length;
}

long ptrace(int request, int pid, void *address, void *data)
{
	struct iovec *given = data, all = {whole};
	size_t position;

	if (!next)
		next = (call *)dlsym(RTLD_NEXT, "ptrace");
	if (request != PTRACE_SETREGSET || address != (void *)NT_X86_XSTATE)
		return next(request, pid, address, data);
	if (!size)
		size = whole_size(pid);
	if (given->length >= size)
		return next(request, pid, address, data);
	for (position = 0; position < given->length; position++)
		whole[position] = given->base[position];
	all.length = size;
	return next(request, pid, address, &all);
}
