"""The words of developers: what means the same, what abbreviations stand for, and what they type.

In a line, `{act}` is what a function does, as an infinitive ("read one frame from the socket");
`{name}` its name, `{words}` the words of the name, `{file}` its file, `{place}` words for the file,
`{case}` one of CASES, `{about}` a few words of what it does.
"""

from __future__ import annotations

from typing import Final

SAME: Final = tuple(
    tuple(group.split(","))
    for group in (
        "fix,repair,correct",
        "remove,delete,drop,strip",
        "add,append,insert",
        "create,make,build,construct",
        "return,give back,hand back,yield",
        "get,fetch,obtain,retrieve",
        "set,assign,put",
        "check,verify,test,make sure",
        "find,locate,look up,search for",
        "parse,interpret,read in,decode",
        "read,load",
        "write,save,store,dump",
        "send,transmit,submit",
        "receive,accept,take in",
        "convert,transform,turn,translate",
        "compute,calculate,work out,determine",
        "start,begin,launch,kick off",
        "stop,end,halt,quit",
        "open,establish",
        "close,shut,shut down",
        "print,show,display,output",
        "format,render,lay out",
        "compare,match up",
        "copy,duplicate,clone",
        "move,shift,relocate",
        "rename,call differently",
        "replace,swap,substitute",
        "update,refresh,bring up to date",
        "merge,combine,join",
        "split,break up,divide,cut",
        "sort,order,arrange",
        "filter,sift,select",
        "register,sign up,enrol",
        "handle,deal with,process,take care of",
        "raise,throw",
        "run,execute,perform",
        "wait,block,sit idle",
        "generate,produce",
        "extract,pull out,take out",
        "initialize,set up,prepare",
        "apply,use",
        "allow,permit,let",
        "ensure,guarantee,make sure",
        "validate,verify,check",
        "encode,serialise,pack",
        "decode,deserialise,unpack",
        "escape,quote",
        "iterate,walk,loop,go through",
        "collect,gather",
        "count,tally",
        "call,invoke",
        "list,enumerate",
        "reset,clear,wipe",
        "error,failure,problem",
        "exception,error,failure",
        "warning,notice,complaint",
        "file,document",
        "directory,folder",
        "path,location",
        "name,label,title",
        "string,text",
        "number,amount,count",
        "value,setting,content",
        "list,sequence,series",
        "dictionary,mapping,lookup table",
        "object,thing,instance",
        "function,routine,callable",
        "method,routine,procedure",
        "class,type",
        "module,unit",
        "argument,parameter,option",
        "option,setting,switch",
        "message,note,text",
        "connection,link,session",
        "request,query,demand",
        "response,reply,answer",
        "server,backend,service",
        "client,caller",
        "user,person",
        "line,row",
        "column,field",
        "character,letter,symbol",
        "byte,octet",
        "buffer,temporary storage",
        "length,size",
        "beginning,start,head",
        "end,tail",
        "current,present",
        "previous,former,earlier",
        "next,following",
        "first,initial",
        "last,final",
        "new,fresh",
        "given,passed,specified",
        "default,standard,fallback",
        "empty,blank",
        "valid,legal,well-formed",
        "invalid,illegal,malformed,bad",
        "available,present,accessible",
        "whether,if",
        "date,day",
        "time,moment",
        "address,location",
        "header,heading,preamble",
        "key,identifier",
        "table,grid",
        "node,vertex",
        "tree,hierarchy",
        "graph,network",
        "matrix,grid of numbers",
        "image,picture",
        "thread,worker",
        "process,task,job",
        "lock,mutex,guard",
        "queue,waiting line,backlog",
        "cache,remembered results",
        "token,lexeme",
        "pattern,template",
        "command,instruction",
        "host,machine",
        "password,secret,credentials",
        "signature,prototype",
        "version,release",
        "package,distribution",
        "documentation,docs,manual",
        "configuration,settings,preferences",
        "temporary,throwaway,short-lived",
        "random,arbitrary",
        "maximum,largest,upper limit",
        "minimum,smallest,lower limit",
        "multiple,several,many",
        "specific,particular",
        "similar,alike",
        "equal,identical,same",
        "original,source",
        "target,destination",
        "stream,flow",
        "event,occurrence",
        "state,condition,status",
        "template,blueprint",
        "parent,enclosing one",
        "child,descendant",
        "attribute,property",
        "element,item,entry",
        "item,element,entry",
        "size,extent",
        "delay,pause,lag",
        "timeout,time limit,deadline",
    )
)
"""The first word of a group may be said as one of the others."""

MEANINGS: Final[dict[str, str]] = {
    "args": "arguments", "arg": "argument", "attr": "attribute", "attrs": "attributes",
    "buf": "buffer", "cfg": "configuration", "config": "configuration", "cls": "class",
    "cmd": "command", "conn": "connection", "ctx": "context", "cur": "current", "db": "database",
    "dest": "destination", "dict": "dictionary", "dir": "directory", "dirs": "directories",
    "doc": "documentation", "env": "environment", "err": "error", "exc": "exception",
    "expr": "expression", "ext": "extension", "fd": "file descriptor", "fmt": "format",
    "fn": "function", "func": "function", "hdr": "header", "id": "identifier", "idx": "index",
    "impl": "implementation", "info": "information", "init": "initialize", "int": "integer",
    "iter": "iterate", "len": "length", "lib": "library", "loc": "location", "max": "maximum",
    "min": "minimum", "mod": "module", "msg": "message", "num": "number", "obj": "object",
    "param": "parameter", "params": "parameters", "pkg": "package", "pos": "position",
    "prev": "previous", "proc": "process", "ptr": "pointer", "pwd": "password", "repr": "text form",
    "req": "request", "resp": "response", "ret": "result", "sep": "separator", "seq": "sequence",
    "spec": "specification", "src": "source", "str": "string", "sym": "symbol", "sync": "synchronise",
    "temp": "temporary", "tmp": "temporary", "util": "helper", "utils": "helpers", "val": "value",
    "var": "variable", "vars": "variables", "ver": "version",
}  # fmt: skip

CASES: Final = (
    "when the input is empty", "when it is called twice", "for very long input",
    "if the file is missing", "with non-ASCII text", "on Windows", "with a trailing newline",
    "when two threads come at once", "for negative numbers", "if the value is None",
    "when the server is slow", "after an upgrade", "with nested data", "for a single element",
    "when nothing matches", "with duplicate keys", "on the second run", "in the middle of the night job",
    "if somebody passes a tuple", "under load",
)  # fmt: skip

PROMPTS_BY_NAME: Final = (
    "`{name}` goes wrong {case}, please have a look",
    "can you fix {name} in {file}? It breaks {case}",
    "{name} should not fail {case}",
    "add a test for {name}, it is never run {case}",
    "what does {name} in {file} do {case}?",
    "simplify {name}, nobody understands it",
    "the {words} part of {file} is too slow {case}",
)

PROMPTS_BY_ACT: Final = (
    "we need to {act}, and it must work {case}",
    "it doesn't {act} {case}, why?",
    "make sure that we still {act} {case}",
    "users say that it cannot {act} {case}",
    "where do we {act}? I want to change what happens {case}",
)

PROMPTS_VAGUE: Final = (
    "this is broken {case}, find out why",
    "the nightly job failed {case}, look at the log and fix it",
    "please clean up what I have selected",
    "it crashes {case}, see the traceback below",
)

ANSWERS_BY_NAME: Final = (
    "I changed `{name}` in {file}; it now works {case}. The tests pass.",
    "The cause was in `{name}`: it did not expect to run {case}. Fixed, with a test.",
    "`{name}` was called too early. I moved the call and left a comment in {file}.",
    "Done. {file}: `{name}` returns early {case}.",
)

ANSWERS_BY_ACT: Final = (
    "It failed to {act} {case}. I fixed `{name}` and ran the tests.",
    "`{name}`, which has to {act}, now also does so {case}.",
)

CHATTER: Final = (
    "ok", "yes, go on", "looks good, commit it", "run the tests again", "and now the docs",
    "undo the last change", "why?", "thanks", "try again", "is that all?", "show me the diff",
    "no, keep the old name", "add a changelog line", "push it", "do the same for the other one",
)  # fmt: skip

COMMANDS: Final = (
    "git status", "git diff --stat", "git commit -am wip", "git push", "git log --oneline -5",
    "make test", "make lint", "ls -la", "python -m pytest -q", "ruff check .", "mypy .",
    "git stash", "git checkout -b fix", "pip install -e .", "docker compose up -d", "cd ..",
)  # fmt: skip

QUERIES_BY_ACT: Final = (
    "where did we {act}",
    "the code that should {act}",
    "how do we {act}",
    "that change so that it can {act}",
    "which place has to {act}",
)

QUERIES_BY_NAME: Final = (
    "the {words} helper",
    "what did I do about {words}",
    "the change to {words} in the {place} code",
    "{words} in {place}",
)

QUERIES_BY_ERROR: Final = (
    "what was that crash while trying to {act}",
    "the stack trace from the attempt to {act}",
    "which failure did we see when it had to {act}",
    "why did it blow up when asked to {act}",
)

QUERIES_BY_FILE: Final = (
    "where did I touch the {place} code for {about}",
    "what changed in {place} about {about}",
    "the edit in the {place} module, something with {about}",
)

TOOLS: Final = ("claude-code", "cursor", "codex", "aider")
