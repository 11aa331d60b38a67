"""Is itself started as /proc/self/exe, which at that moment is still the launcher (CVE-2019-5736).

layers: landlock
argv: /proc/self/exe --version
verdict: exit_code
needs: cloister
"""
