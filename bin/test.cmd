@echo off
rem Run the checks on Windows that need no other system, with nothing set up before; stop at the
rem first that fails.
rem
rem   bin\test.cmd              all of them
rem   bin\test.cmd -k name      only pytest, with these arguments
setlocal
for %%P in ("%~dp0..") do set "project=%%~fP"
set "venv=%project%\.venv.test"
set "python=py -3"
%python% -c "import sys; sys.exit(sys.version_info < (3, 11))" >nul 2>&1 <nul
if errorlevel 1 set "python=python"
%python% -I "%~dp0environment.py" --tests "%venv%" >nul <nul
if errorlevel 1 exit /b 1
cd /d "%project%"
if not "%~1"=="" goto pytest
"%venv%\Scripts\python.exe" -m ruff check .
if errorlevel 1 exit /b 1
"%venv%\Scripts\python.exe" -m ruff format --check .
if errorlevel 1 exit /b 1
"%venv%\Scripts\python.exe" -m mypy --platform win32 src
if errorlevel 1 exit /b 1

:pytest
"%venv%\Scripts\python.exe" -m pytest @tests\windows\anywhere.txt tests\windows\inside %*
exit /b %errorlevel%
